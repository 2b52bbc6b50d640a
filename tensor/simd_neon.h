/* simd_neon.h -- vectors of 4 floats: AArch64 Advanced SIMD. */
#ifndef TENSOR_SIMD_NEON_H
#define TENSOR_SIMD_NEON_H
#include <arm_neon.h>
#include <stdint.h>
typedef float32x4_t V;
enum { LANES = 4 };
#define SIMD_NAME  "neon"
#define SIMD_TABLE kernels_neon
#define SIMD_TILES tiles_neon

static inline uint32x4_t v_mask(int k)                    /* all ones in the first k lanes */
{
    static const int32_t lane[4] = { 0, 1, 2, 3 };
    return vcgtq_s32(vdupq_n_s32(k), vld1q_s32(lane));
}

static inline V    v_set  (float s)               { return vdupq_n_f32(s); }
static inline V    v_load (const float *p)        { return vld1q_f32(p); }
static inline void v_store(float *p, V a)         { vst1q_f32(p, a); }
static inline V    v_first(V a, int k)            { return vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(a), v_mask(k))); }

static inline V v_load_first(const float *p, int k)       /* the rest 0 */
{
    float all[4] = {0};
    for (int i = 0; i < k; i++) all[i] = p[i];
    return vld1q_f32(all);
}

static inline void v_store_first(float *p, V a, int k)
{
    float all[4];
    vst1q_f32(all, a);
    for (int i = 0; i < k; i++) p[i] = all[i];
}

static inline V    v_add  (V a, V b)              { return vaddq_f32(a, b); }
static inline V    v_sub  (V a, V b)              { return vsubq_f32(a, b); }
static inline V    v_mul  (V a, V b)              { return vmulq_f32(a, b); }
static inline V    v_div  (V a, V b)              { return vdivq_f32(a, b); }
static inline V    v_fma  (V a, V b, V c)         { return vfmaq_f32(c, a, b); }                /* a b + c */
static inline V    v_max  (V a, V b)              { return vbslq_f32(vcgtq_f32(a, b), a, b); }  /* b when either is NaN */
static inline V    v_min  (V a, V b)              { return vbslq_f32(vcltq_f32(a, b), a, b); }  /* b when either is NaN */
static inline V    v_round(V a)                   { return vrndnq_f32(a); }
static inline V    v_negative(V x, V a, V b)      { return vbslq_f32(vcltzq_s32(vreinterpretq_s32_f32(x)), a, b); }   /* a where x has the minus sign, else b */
static inline V    v_power(int32x4_t n)           { return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(n, vdupq_n_s32(127)), 23)); }

static inline V v_scale2(V a, V n)                        /* a 2^n, n whole and within +-200: two steps, so that subnormals and infinity come out right */
{
    int32x4_t whole = vcvtq_s32_f32(n), half = vshrq_n_s32(whole, 1);
    return vmulq_f32(vmulq_f32(a, v_power(half)), v_power(vsubq_s32(whole, half)));
}

static inline float v_sum    (V a)                { return vaddvq_f32(a); }
static inline float v_highest(V a)                { return vmaxvq_f32(a); }
static inline V    v_bf16 (const uint16_t *p)     { return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16)); }
static inline V    v_f16  (const uint16_t *p)     { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p))); }

static inline void v_turn(V r[4])                         /* a square of numbers, transposed */
{
    float64x2_t a = vreinterpretq_f64_f32(vtrn1q_f32(r[0], r[1])), b = vreinterpretq_f64_f32(vtrn2q_f32(r[0], r[1]));
    float64x2_t c = vreinterpretq_f64_f32(vtrn1q_f32(r[2], r[3])), d = vreinterpretq_f64_f32(vtrn2q_f32(r[2], r[3]));
    r[0] = vreinterpretq_f32_f64(vtrn1q_f64(a, c));
    r[1] = vreinterpretq_f32_f64(vtrn1q_f64(b, d));
    r[2] = vreinterpretq_f32_f64(vtrn2q_f64(a, c));
    r[3] = vreinterpretq_f32_f64(vtrn2q_f64(b, d));
}
#endif
