// AdamW on one flat vector, in place, in one pass over memory (Loshchilov & Hutter 2019).
//
//     weight, exp_avg, exp_avg_sq, gradient (n) each, terms (8), then the parameters whose numbers
//     are weight's, one after the other -> 1 when done
//
// terms: clip, lr, beta1's power, beta2's power, decay, beta1, beta2, eps.

#include "arithmetic.h"
#include "team.h"

namespace {

constexpr int64_t PIECE = 1 << 14;

}  // namespace

extern "C" int adamw(int count, void **data, int *axes, int64_t **shape, const char **, void *,
                     void *) {
  float *weight = (float *)data[0], *first = (float *)data[1], *second = (float *)data[2];
  const float *gradient = (const float *)data[3], *terms = (const float *)data[4];
  const float clip = terms[0], lr = terms[1], decay = terms[4], beta1 = terms[5];
  const float beta2 = terms[6], eps = terms[7];
  const float rate = lr / (1.0f - terms[2]), second_scale = 1.0f / (1.0f - terms[3]);
  const int64_t size = shape[0][0];
  Team::get().run((size + PIECE - 1) / PIECE, [=](int64_t piece) {
    const int64_t end = std::min(size, (piece + 1) * PIECE);
    for (int64_t i = piece * PIECE; i < end; ++i) {
      const float g = gradient[i] * clip;
      const float m = first[i] + (g - first[i]) * (1.0f - beta1);
      const float v = second[i] + (g * g - second[i]) * (1.0f - beta2);
      first[i] = m, second[i] = v;
      weight[i] = weight[i] * (1.0f - lr * decay) - rate * m / (std::sqrt(v * second_scale) + eps);
    }
    int64_t start = 0;
    for (int p = 5; p < count - 1; ++p) {
      const int64_t length = product_of(shape[p], axes[p]);
      const int64_t from = std::max(start, piece * PIECE), to = std::min(start + length, end);
      if (from < to) std::copy(weight + from, weight + to, (float *)data[p] + from - start);
      start += length;
    }
  });
  *(float *)data[count - 1] = 1.0f;
  return 0;
}
