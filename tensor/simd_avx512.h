/* simd_avx512.h -- vectors of 16 floats: AVX-512 F, BW, DQ, VL. */
#ifndef TENSOR_SIMD_AVX512_H
#define TENSOR_SIMD_AVX512_H
#include <immintrin.h>
#include <stdint.h>
typedef __m512 V;
enum { LANES = 16 };
#define SIMD_NAME  "avx512"
#define SIMD_TABLE kernels_avx512
#define SIMD_TILES tiles_avx512

static inline __mmask16 v_mask(int k)             { return (__mmask16)((1u << k) - 1); }        /* the first k lanes, k <= 16 */

static inline V    v_set  (float s)               { return _mm512_set1_ps(s); }
static inline V    v_load (const float *p)        { return _mm512_loadu_ps(p); }
static inline void v_store(float *p, V a)         { _mm512_storeu_ps(p, a); }
static inline V    v_load_first (const float *p, int k) { return _mm512_maskz_loadu_ps(v_mask(k), p); }   /* the rest 0 */
static inline void v_store_first(float *p, V a, int k)  { _mm512_mask_storeu_ps(p, v_mask(k), a); }
static inline V    v_first(V a, int k)            { return _mm512_maskz_mov_ps(v_mask(k), a); }
static inline V    v_add  (V a, V b)              { return _mm512_add_ps(a, b); }
static inline V    v_sub  (V a, V b)              { return _mm512_sub_ps(a, b); }
static inline V    v_mul  (V a, V b)              { return _mm512_mul_ps(a, b); }
static inline V    v_div  (V a, V b)              { return _mm512_div_ps(a, b); }
static inline V    v_fma  (V a, V b, V c)         { return _mm512_fmadd_ps(a, b, c); }          /* a b + c */
static inline V    v_max  (V a, V b)              { return _mm512_max_ps(a, b); }               /* b when either is NaN */
static inline V    v_min  (V a, V b)              { return _mm512_min_ps(a, b); }               /* b when either is NaN */
static inline V    v_round(V a)                   { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
static inline V    v_negative(V x, V a, V b)      { return _mm512_mask_blend_ps(_mm512_movepi32_mask(_mm512_castps_si512(x)), b, a); }   /* a where x has the minus sign, else b */
static inline V    v_scale2(V a, V n)             { return _mm512_scalef_ps(a, n); }            /* a 2^n, n whole */
static inline float v_sum(V a)                    { return _mm512_reduce_add_ps(a); }
static inline float v_highest(V a)                { return _mm512_reduce_max_ps(a); }

static inline __m256i v_halves(const uint16_t *p) { return _mm256_loadu_si256((const __m256i *)p); }
static inline V    v_bf16 (const uint16_t *p)     { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(v_halves(p)), 16)); }
static inline V    v_f16  (const uint16_t *p)     { return _mm512_cvtph_ps(v_halves(p)); }

static inline void v_turn(V r[16])                        /* a square of numbers, transposed */
{
    __m512d t[16];
    V u[16];
    #pragma GCC unroll 16
    for (int i = 0; i < 16; i += 2) {
        t[i]     = _mm512_castps_pd(_mm512_unpacklo_ps(r[i], r[i + 1]));
        t[i + 1] = _mm512_castps_pd(_mm512_unpackhi_ps(r[i], r[i + 1]));
    }
    #pragma GCC unroll 16
    for (int i = 0; i < 16; i += 4) {
        u[i]     = _mm512_castpd_ps(_mm512_unpacklo_pd(t[i],     t[i + 2]));
        u[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(t[i],     t[i + 2]));
        u[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(t[i + 1], t[i + 3]));
        u[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(t[i + 1], t[i + 3]));
    }
    #pragma GCC unroll 16
    for (int i = 0; i < 4; i++) {
        V a = _mm512_shuffle_f32x4(u[i], u[i + 4], 0x88), b = _mm512_shuffle_f32x4(u[i + 8], u[i + 12], 0x88);
        V c = _mm512_shuffle_f32x4(u[i], u[i + 4], 0xdd), d = _mm512_shuffle_f32x4(u[i + 8], u[i + 12], 0xdd);
        r[i]      = _mm512_shuffle_f32x4(a, b, 0x88);
        r[i + 4]  = _mm512_shuffle_f32x4(c, d, 0x88);
        r[i + 8]  = _mm512_shuffle_f32x4(a, b, 0xdd);
        r[i + 12] = _mm512_shuffle_f32x4(c, d, 0xdd);
    }
}
#endif
