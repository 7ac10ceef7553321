// AdamW in place, in one pass over memory (Loshchilov & Hutter 2019): on one flat vector, or on
// many parameters in one call, since a call for each costs more than its numbers.

#include <vector>

#include "arithmetic.h"
#include "team.h"

namespace {

constexpr int64_t PIECE = 1 << 14;

struct Terms {
  float clip, lr, power1, power2, decay, beta1, beta2, eps;
};

void update(const Terms &of, int64_t count, const float *gradient, float *weight, float *first,
            float *second) {
  const float rate = of.lr / (1.0f - of.power1), second_scale = 1.0f / (1.0f - of.power2);
  const float kept = 1.0f - of.lr * of.decay;
  for (int64_t i = 0; i < count; ++i) {
    const float g = gradient[i] * of.clip;
    const float m = first[i] + (g - first[i]) * (1.0f - of.beta1);
    const float v = second[i] + (g * g - second[i]) * (1.0f - of.beta2);
    first[i] = m, second[i] = v;
    weight[i] = weight[i] * kept - rate * m / (std::sqrt(v * second_scale) + of.eps);
  }
}

// A stretch of one of many tensors.
struct Stretch {
  int64_t tensor, start, count;
};

std::vector<Stretch> stretches(int64_t tensors, const int *axes, int64_t **shape) {
  std::vector<Stretch> all;
  for (int64_t tensor = 0; tensor < tensors; ++tensor) {
    const int64_t size = product_of(shape[tensor], axes[tensor]);
    for (int64_t start = 0; start < size; start += PIECE)
      all.push_back({tensor, start, std::min(PIECE, size - start)});
  }
  return all;
}

}  // namespace

// weight, exp_avg, exp_avg_sq, gradient (n) each, terms (8), then the parameters whose numbers are
// weight's, one after the other -> 1 when done.
extern "C" int adamw(int count, void **data, int *axes, int64_t **shape, const char **, void *,
                     void *) {
  float *weight = (float *)data[0], *first = (float *)data[1], *second = (float *)data[2];
  const float *gradient = (const float *)data[3];
  const Terms terms = *(const Terms *)data[4];
  const int64_t size = shape[0][0];
  Team::get().run((size + PIECE - 1) / PIECE, [=](int64_t piece) {
    const int64_t from = piece * PIECE, end = std::min(size, from + PIECE);
    update(terms, end - from, gradient + from, weight + from, first + from, second + from);
    int64_t start = 0;
    for (int p = 5; p < count - 1; ++p) {
      const int64_t length = product_of(shape[p], axes[p]);
      const int64_t low = std::max(start, from), high = std::min(start + length, end);
      if (low < high) std::copy(weight + low, weight + high, (float *)data[p] + low - start);
      start += length;
    }
  });
  *(float *)data[count - 1] = 1.0f;
  return 0;
}

// terms (8), decays (k), then k weights, k exp_avg, k exp_avg_sq, k gradients -> 1 when done.
extern "C" int adamw_of_many(int count, void **data, int *axes, int64_t **shape, const char **,
                             void *, void *) {
  const Terms terms = *(const Terms *)data[0];
  const float *decays = (const float *)data[1];
  const int64_t tensors = (count - 3) / 4;
  const std::vector<Stretch> all = stretches(tensors, axes + 2, shape + 2);
  Team::get().run(int64_t(all.size()), [&](int64_t piece) {
    const Stretch &part = all[size_t(piece)];
    const auto place = [&](int64_t kind) {
      return (float *)data[2 + kind * tensors + part.tensor] + part.start;
    };
    Terms own = terms;
    own.decay = decays[part.tensor];
    update(own, part.count, place(3), place(0), place(1), place(2));
  });
  *(float *)data[count - 1] = 1.0f;
  return 0;
}

// Tensors -> the sum (1) of all their squares, in one order whatever the number of threads.
extern "C" int sum_of_squares(int count, void **data, int *axes, int64_t **shape, const char **,
                              void *, void *) {
  const std::vector<Stretch> all = stretches(count - 1, axes, shape);
  std::vector<float> parts(all.size());
  Team::get().run(int64_t(all.size()), [&](int64_t piece) {
    const Stretch &part = all[size_t(piece)];
    const float *from = (const float *)data[part.tensor] + part.start;
    Floats sum = {};
    for (int64_t i = 0; i < part.count; i += LANES) {
      const Floats x = some(from + i, std::min<int64_t>(LANES, part.count - i));
      sum += x * x;
    }
    parts[size_t(piece)] = total(sum);
  });
  double sum = 0;
  for (const float part : parts) sum += part;
  *(float *)data[count - 1] = float(sum);
  return 0;
}
