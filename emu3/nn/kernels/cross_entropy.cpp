// Each row's cross-entropy and its slope by the logits, in two passes over a row that stays near.
//
//     logits (N, V), labels (N) int32, none below 0 -> losses (N), slopes (N, V)

#include "arithmetic.h"
#include "team.h"

extern "C" int cross_entropy(int, void **data, int *, int64_t **shape, const char **, void *,
                             void *) {
  const float *logits = (const float *)data[0];
  const int32_t *labels = (const int32_t *)data[1];
  float *losses = (float *)data[2], *slopes = (float *)data[3];
  const int64_t rows = shape[0][0], width = shape[0][1], whole = width - width % LANES;
  Team::get().run(rows, [=](int64_t row) {
    const float *from = logits + row * width;
    float *to = slopes + row * width;
    const int32_t label = labels[row];
    losses[row] = 0.0f;
    if (label < 0 || label >= width) return (void)std::fill(to, to + width, 0.0f);
    Floats top = every(-INFINITY);
    for (int64_t i = 0; i < whole; i += LANES) {
      const Floats value = load(from + i);
      top = value > top ? value : top;
    }
    float highest = largest(top);
    for (int64_t i = whole; i < width; ++i) highest = std::max(highest, from[i]);
    Floats sum = {};
    for (int64_t i = 0; i < whole; i += LANES) {
      const Floats power = exponential(load(from + i) - highest);
      store(to + i, power);
      sum += power;
    }
    float all = total(sum);
    for (int64_t i = whole; i < width; ++i) all += to[i] = exponential(every(from[i] - highest))[0];
    const float share = 1.0f / all;
    for (int64_t i = 0; i < width; ++i) to[i] *= share;
    to[label] -= 1.0f;
    losses[row] = std::log(all) + highest - from[label];
  });
  return 0;
}
