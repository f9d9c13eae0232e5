// exp of a register of floats, to about two units in the last place; exactly 0 below -87, where floats end.
#pragma once
#include "scores.h"

static inline __attribute__((always_inline)) Vec exponential(Vec x) {
    const IntVec keep = ~(x <= -87.0f);  // NaN stays
    Vec clamped = (Vec)(((IntVec)x & keep));  // what is dropped must not become NaN on the way: exp(0), masked below
    const Vec magic = Vec{} + 12582912.0f;    // 1.5 * 2^23: adding it rounds to an integer
    const Vec turns = clamped * 1.44269504f + magic;
    const Vec n = turns - magic;
    clamped -= n * 0.693359375f;
    clamped -= n * -2.12194440e-4f;
    Vec y = clamped * 1.9875691500e-4f + 1.3981999507e-3f;
    y = y * clamped + 8.3334519073e-3f;
    y = y * clamped + 4.1665795894e-2f;
    y = y * clamped + 1.6666665459e-1f;
    y = y * clamped + 5.0000001201e-1f;
    y = y * (clamped * clamped) + clamped + 1.0f;
    const IntVec power = ((IntVec)turns + 127) << 23;  // the low bits of `turns` hold n
    return (Vec)((IntVec)(y * (Vec)power) & keep);
}
