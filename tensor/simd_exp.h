/* simd_exp.h -- e^x on the registers of the simd header included before it; 2 ulp. */
#ifndef TENSOR_SIMD_EXP_H
#define TENSOR_SIMD_EXP_H

/* |x| <= 120.  x = n ln 2 + r,  |r| <= ln 2 / 2;  e^x = 2^n e^r, and e^r by its series to r^7: remainder 5e-9. */
static inline __attribute__((always_inline)) V v_exp_within(V x)
{
    V n = v_round(v_mul(x, v_set(1.44269504f)));
    V r = v_fma(n, v_set(1.90465430e-9f), v_fma(n, v_set(-0.693147182f), x));
    V p = v_fma(v_set(1.0f / 5040), r, v_set(1.0f / 720));
    p = v_fma(p, r, v_set(1.0f / 120));
    p = v_fma(p, r, v_set(1.0f / 24));
    p = v_fma(p, r, v_set(1.0f / 6));
    p = v_fma(p, r, v_set(0.5f));
    p = v_fma(p, r, v_set(1));
    p = v_fma(p, r, v_set(1));
    return v_scale2(p, n);
}

/* Any x: 0 below -105, infinity above 90; NaN passes. */
static inline __attribute__((always_inline)) V v_exp(V x) { return v_exp_within(v_max(v_set(-105), v_min(v_set(90), x))); }
#endif
