// x / rms(x) * weight for each row of x (N, C). Sums have one order whatever the number of threads.
#pragma once

#include "arithmetic.h"
#include "team.h"

constexpr int64_t NORM_PIECE = 8192;  // numbers of x a thread takes at a time

// The sum of a[i] * b[i].
inline float dot(const float *a, const float *b, int64_t count) {
  Floats sum = {};
  int64_t i = 0;
  for (; i + LANES <= count; i += LANES) sum += load(a + i) * load(b + i);
  if (i < count) sum += load_first(a + i, count - i) * load_first(b + i, count - i);
  return total(sum);
}

inline float rate(const float *x, int64_t count, float eps) {
  return 1.0f / std::sqrt(dot(x, x, count) / float(count) + eps);
}

inline void normalise(const float *x, const float *weight, float eps, int64_t rows, int64_t width,
                      float *out) {
  const int64_t lines = std::max<int64_t>(1, NORM_PIECE / width);
  Team::get().run((rows + lines - 1) / lines, [=](int64_t piece) {
    const int64_t end = std::min(rows, (piece + 1) * lines);
    for (int64_t row = piece * lines; row < end; ++row) {
      const float *from = x + row * width;
      const float scale = rate(from, width, eps);
      for (int64_t i = 0; i < width; ++i) out[row * width + i] = from[i] * scale * weight[i];
    }
  });
}
