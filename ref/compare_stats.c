#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "ref/compare.h"

void difference_begin(DifferenceSum *s, double rtol, double atol)
{
    memset(s, 0, sizeof *s);
    s->rtol = rtol;
    s->atol = atol;
}

static int64_t place(float f)                             /* float32 values in order, as consecutive integers */
{
    int32_t i;
    memcpy(&i, &f, sizeof i);
    return i < 0 ? (int64_t)INT32_MIN - i : i;
}

static size_t bucket(uint64_t ulp)
{
    if (ulp < ULP_EXACT) return (size_t)ulp;
    int octave = 10;
    while (ulp >> (octave + 1)) octave++;
    return ULP_EXACT + (size_t)(octave - 10) * ULP_PARTS + (size_t)((ulp >> (octave - 9)) & (ULP_PARTS - 1));
}

static double bucket_start(size_t i)
{
    if (i < ULP_EXACT) return (double)i;
    size_t octave = (i - ULP_EXACT) / ULP_PARTS, part = (i - ULP_EXACT) % ULP_PARTS;
    return ldexp((double)(ULP_PARTS + part), (int)octave + 1);
}

static void worst_is(DifferenceSum *s, size_t at, double a, double b)
{
    s->d.at = at;
    s->d.a = a;
    s->d.b = b;
}

/* True when the pair has no finite difference; it is then counted here. */
static bool beyond_numbers(DifferenceSum *s, double a, double b, size_t at)
{
    if (isfinite(a) && isfinite(b)) return false;
    bool first = !s->d.nan_mismatch && !s->d.inf_mismatch;
    if (isnan(a) || isnan(b)) {
        if (isnan(a) && isnan(b)) return true;
        s->d.nan_mismatch++;
    } else {
        if (a == b) return true;
        s->d.inf_mismatch++;
    }
    if (first) worst_is(s, at, a, b);
    return true;
}

void difference_add(DifferenceSum *s, const double *a, const double *b, size_t n)
{
    Difference *d = &s->d;
    for (size_t i = 0; i < n; i++) {
        d->differing += memcmp(&a[i], &b[i], sizeof a[i]) != 0;
        if (beyond_numbers(s, a[i], b[i], d->n + i)) continue;
        double e = fabs(a[i] - b[i]);
        if ((e > d->max_abs || (!s->seen && !d->at)) && !d->nan_mismatch && !d->inf_mismatch) worst_is(s, d->n + i, a[i], b[i]);
        d->max_abs = fmax(d->max_abs, e);
        d->beyond += e > s->atol + s->rtol * fabs(b[i]);
        s->aa += a[i] * a[i];
        s->bb += b[i] * b[i];
        s->ab += a[i] * b[i];
        s->dd += e * e;
        s->seen++;
        uint64_t ulp = (uint64_t)llabs(place((float)a[i]) - place((float)b[i]));
        d->ulp_max = fmax(d->ulp_max, (double)ulp);
        s->ulp[bucket(ulp)]++;
    }
    d->n += n;
}

void difference_middle(DifferenceSum *s)
{
    s->floor = s->seen ? 1e-6 * sqrt(s->bb / (double)s->seen) : 0;
}

void difference_again(DifferenceSum *s, const double *a, const double *b, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(a[i]) || !isfinite(b[i]) || a[i] == b[i]) continue;
        s->d.max_rel = fmax(s->d.max_rel, fabs(a[i] - b[i]) / fmax(fabs(b[i]), s->floor));
    }
}

static double quantile(const DifferenceSum *s, double part)
{
    size_t rank = (size_t)ceil(part * (double)s->seen), sum = 0;
    for (size_t i = 0; i < ULP_BUCKETS; i++) {
        sum += s->ulp[i];
        if (sum >= rank && sum) return bucket_start(i);
    }
    return 0;
}

void difference_end(DifferenceSum *s)
{
    Difference *d = &s->d;
    d->rel_rms = s->bb > 0 ? sqrt(s->dd / s->bb) : s->dd > 0 ? (double)INFINITY : 0;
    d->cosine = s->aa > 0 && s->bb > 0 ? s->ab / sqrt(s->aa) / sqrt(s->bb) : s->aa > 0 || s->bb > 0 ? 0 : 1;
    d->ulp_99 = quantile(s, 0.99);
    d->ulp_median = quantile(s, 0.5);
    d->psnr = s->dd > 0 && s->seen ? 10 * log10(255.0 * 255.0 * (double)s->seen / s->dd) : (double)INFINITY;
}
