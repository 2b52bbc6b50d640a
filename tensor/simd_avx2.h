/* simd_avx2.h -- vectors of 8 floats: AVX2 and FMA. */
#ifndef TENSOR_SIMD_AVX2_H
#define TENSOR_SIMD_AVX2_H
#include <immintrin.h>
#include <stdint.h>
typedef __m256 V;
enum { LANES = 8 };
#define SIMD_NAME  "avx2"
#define SIMD_TABLE kernels_avx2
#define SIMD_TILES tiles_avx2

static inline __m256i v_mask(int k)                       /* all ones in the first k lanes */
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(k), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

static inline V    v_set  (float s)               { return _mm256_set1_ps(s); }
static inline V    v_load (const float *p)        { return _mm256_loadu_ps(p); }
static inline void v_store(float *p, V a)         { _mm256_storeu_ps(p, a); }
static inline V    v_load_first (const float *p, int k) { return _mm256_maskload_ps(p, v_mask(k)); }      /* the rest 0 */
static inline void v_store_first(float *p, V a, int k)  { _mm256_maskstore_ps(p, v_mask(k), a); }
static inline V    v_first(V a, int k)            { return _mm256_and_ps(a, _mm256_castsi256_ps(v_mask(k))); }
static inline V    v_add  (V a, V b)              { return _mm256_add_ps(a, b); }
static inline V    v_sub  (V a, V b)              { return _mm256_sub_ps(a, b); }
static inline V    v_mul  (V a, V b)              { return _mm256_mul_ps(a, b); }
static inline V    v_div  (V a, V b)              { return _mm256_div_ps(a, b); }
static inline V    v_fma  (V a, V b, V c)         { return _mm256_fmadd_ps(a, b, c); }          /* a b + c */
static inline V    v_max  (V a, V b)              { return _mm256_max_ps(a, b); }               /* b when either is NaN */
static inline V    v_min  (V a, V b)              { return _mm256_min_ps(a, b); }               /* b when either is NaN */
static inline V    v_round(V a)                   { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
static inline V    v_negative(V x, V a, V b)      { return _mm256_blendv_ps(b, a, x); }         /* a where x has the minus sign, else b */

static inline V v_power(__m256i n)                        /* 2^n, -126 <= n <= 127 */
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
}

static inline V v_scale2(V a, V n)                        /* a 2^n, n whole and within +-200: two steps, so that subnormals and infinity come out right */
{
    __m256i whole = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(whole, 1);
    return _mm256_mul_ps(_mm256_mul_ps(a, v_power(half)), v_power(_mm256_sub_epi32(whole, half)));
}

static inline float v_sum(V a)
{
    __m128 h = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    h = _mm_add_ps(h, _mm_movehl_ps(h, h));
    return _mm_cvtss_f32(_mm_add_ss(h, _mm_movehdup_ps(h)));
}

static inline float v_highest(V a)
{
    __m128 h = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    h = _mm_max_ps(h, _mm_movehl_ps(h, h));
    return _mm_cvtss_f32(_mm_max_ss(h, _mm_movehdup_ps(h)));
}

static inline __m256i v_halves(const uint16_t *p) { return _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p)); }

static inline V v_bf16(const uint16_t *p) { return _mm256_castsi256_ps(_mm256_slli_epi32(v_halves(p), 16)); }

/* Exponent and fraction moved into place are 2^-112 of the value, subnormals too; infinities and NaN get the highest exponent. */
static inline V v_f16(const uint16_t *p)
{
    __m256i h = v_halves(p), sign = _mm256_slli_epi32(_mm256_srli_epi32(h, 15), 31);
    __m256i size = _mm256_slli_epi32(_mm256_and_si256(h, _mm256_set1_epi32(0x7fff)), 13);
    __m256i special = _mm256_cmpgt_epi32(size, _mm256_set1_epi32(0x0f7fffff));
    V value = _mm256_mul_ps(_mm256_castsi256_ps(size), _mm256_set1_ps(0x1p112f));
    V other = _mm256_castsi256_ps(_mm256_or_si256(size, _mm256_set1_epi32(0x7f800000)));
    return _mm256_or_ps(_mm256_castsi256_ps(sign), _mm256_blendv_ps(value, other, _mm256_castsi256_ps(special)));
}

static inline void v_turn(V r[8])                         /* a square of numbers, transposed */
{
    __m256d t[8];
    V u[8];
    #pragma GCC unroll 16
    for (int i = 0; i < 8; i += 2) {
        t[i]     = _mm256_castps_pd(_mm256_unpacklo_ps(r[i], r[i + 1]));
        t[i + 1] = _mm256_castps_pd(_mm256_unpackhi_ps(r[i], r[i + 1]));
    }
    #pragma GCC unroll 16
    for (int i = 0; i < 8; i += 4) {
        u[i]     = _mm256_castpd_ps(_mm256_unpacklo_pd(t[i],     t[i + 2]));
        u[i + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(t[i],     t[i + 2]));
        u[i + 2] = _mm256_castpd_ps(_mm256_unpacklo_pd(t[i + 1], t[i + 3]));
        u[i + 3] = _mm256_castpd_ps(_mm256_unpackhi_pd(t[i + 1], t[i + 3]));
    }
    #pragma GCC unroll 16
    for (int i = 0; i < 4; i++) {
        r[i]     = _mm256_permute2f128_ps(u[i], u[i + 4], 0x20);
        r[i + 4] = _mm256_permute2f128_ps(u[i], u[i + 4], 0x31);
    }
}
#endif
