// The norm's operator, and its slopes.

#include <vector>

#include "rms_norm.h"

namespace {

constexpr int64_t SUMMED_ROWS = 64;  // rows whose slopes by weight are summed together first

}  // namespace

// x (..., C), weight (C), eps (1) -> like x.
extern "C" int rms_norm(int, void **data, int *axes, int64_t **shape, const char **, void *,
                        void *) {
  const int64_t width = shape[1][0], rows = product_of(shape[0], axes[0]) / width;
  normalise((const float *)data[0], (const float *)data[1], *(const float *)data[2], rows, width,
            (float *)data[3]);
  return 0;
}

// x (..., C), weight (C), eps (1), slope of out (..., C) -> slopes of x (..., C) and weight (C).
extern "C" int rms_norm_grad(int, void **data, int *axes, int64_t **shape, const char **, void *,
                             void *) {
  const float *x = (const float *)data[0], *weight = (const float *)data[1];
  const float eps = *(const float *)data[2], *slope = (const float *)data[3];
  float *by_x = (float *)data[4], *by_weight = (float *)data[5];
  const int64_t width = shape[1][0], rows = product_of(shape[0], axes[0]) / width;
  const int64_t pieces = (rows + SUMMED_ROWS - 1) / SUMMED_ROWS;
  Scratch parts(pieces * width);
  float *part = parts.get();
  Team::get().run(pieces, [=](int64_t piece) {
    float *sum = part + piece * width;
    std::fill(sum, sum + width, 0.0f);
    std::vector<float> weighted(static_cast<size_t>(width));
    const int64_t end = std::min(rows, (piece + 1) * SUMMED_ROWS);
    for (int64_t row = piece * SUMMED_ROWS; row < end; ++row) {
      const float *from = x + row * width, *down = slope + row * width;
      const float scale = rate(from, width, eps);
      for (int64_t i = 0; i < width; ++i) {
        weighted[i] = down[i] * weight[i];
        sum[i] += down[i] * from[i] * scale;
      }
      const float back = dot(weighted.data(), from, width) * scale * scale / float(width);
      float *to = by_x + row * width;
      for (int64_t i = 0; i < width; ++i) to[i] = scale * (weighted[i] - from[i] * back);
    }
  });
  std::fill(by_weight, by_weight + width, 0.0f);
  for (int64_t piece = 0; piece < pieces; ++piece)
    for (int64_t i = 0; i < width; ++i) by_weight[i] += part[piece * width + i];
  return 0;
}
