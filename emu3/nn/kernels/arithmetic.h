// What several kernels compute on vectors: edges, largest, the exponential.
#pragma once

#include <algorithm>
#include <cmath>

#include "scratch.h"
#include "vectors.h"

inline void store(float *to, Floats values) { std::memcpy(to, &values, sizeof values); }

inline Floats load_first(const float *from, int64_t count) {
  Floats out = {};
  std::memcpy(&out, from, size_t(count) * 4);
  return out;
}

inline void store_first(float *to, Floats values, int64_t count) {
  std::memcpy(to, &values, size_t(count) * 4);
}

// As many as there are, up to LANES: what stretches end with.
inline Floats some(const float *from, int64_t count) {
  if (count == LANES) return load(from);
#if defined(__AVX512F__)
  return (Floats)_mm512_maskz_loadu_ps(__mmask16((1u << count) - 1), from);
#else
  return load_first(from, count);
#endif
}

inline void keep(float *to, Floats values, int64_t count) {
  if (count == LANES) return store(to, values);
#if defined(__AVX512F__)
  _mm512_mask_storeu_ps(to, __mmask16((1u << count) - 1), (__m512)values);
#else
  store_first(to, values, count);
#endif
}

inline Floats every(float value) { return value - Floats{}; }

inline float largest(Floats values) {
  float lane[LANES];
  std::memcpy(lane, &values, sizeof lane);
  for (int half = LANES / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) lane[i] = std::max(lane[i], lane[i + half]);
  return lane[0];
}

// e to the x, within 2 units in the last place; 0 below -87, where the result leaves the normal
// numbers. The polynomial is that of Cephes' expf (Moshier 1992).
inline Floats exponential(Floats x) {
  const Floats low = every(-87.0f), high = every(88.0f);
  const auto vanishes = x < low;
  x = x < low ? low : x;
  x = x > high ? high : x;
  // Adding 1.5 * 2^23 leaves the rounded number in the lowest bits.
  const Floats shifted = x * 1.44269504088896341f + 12582912.0f;
  const Floats whole = shifted - 12582912.0f;
  const Floats rest = x - whole * 0.693359375f + whole * 2.12194440e-4f;
  Floats sum = every(1.9875691500e-4f);
  sum = sum * rest + 1.3981999507e-3f;
  sum = sum * rest + 8.3334519073e-3f;
  sum = sum * rest + 4.1665795894e-2f;
  sum = sum * rest + 1.6666665459e-1f;
  sum = sum * rest + 5.0000001201e-1f;
  sum = sum * rest * rest + rest + 1.0f;
  Words bits;
  std::memcpy(&bits, &shifted, sizeof bits);
  bits = (bits - 0x4B400000u + 127u) << 23;
  Floats power;
  std::memcpy(&power, &bits, sizeof power);
  return vanishes ? Floats{} : sum * power;
}

inline Floats sigmoid(Floats x) { return 1.0f / (1.0f + exponential(-x)); }

inline int64_t product_of(const int64_t *shape, int axes) {
  int64_t all = 1;
  for (int i = 0; i < axes; ++i) all *= shape[i];
  return all;
}
