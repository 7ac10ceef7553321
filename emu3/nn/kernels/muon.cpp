// Muon on many matrices in place, in one call (train/mini/muon.py): hundreds of small operators else.
// A thread takes a matrix at a time. Products are those of short_products.h.

#include "short_products.h"

namespace {

struct Terms {
  float clip, rate, momentum, kept, size, a, b, c, steps;
};

// to (size, size) = a product that is symmetric, of a factor with itself.
void squared(int64_t size, int64_t k, const Factor &factor, float *to) {
  multiply(size, size, k, factor, factor, to, Alone(), true);
  for (int64_t i = 0; i < size; ++i)
    for (int64_t j = 0; j < i; ++j) to[i * size + j] = to[j * size + i];
}

// x (m, n) -> nearly U V^T of its singular value decomposition U S V^T, by Newton-Schulz steps
//
//     G = x x^T    x = a x + (b G + c G G) x
//
// or, where x has more rows than columns, the same with G = x^T x on the other side.
void orthogonalise(const Terms &of, int64_t m, int64_t n, float *x) {
  const int64_t count = m * n, small = std::min(m, n);
  const Scratch room(2 * small * small + count);
  float *gram = room.get(), *square = gram + small * small, *product = square + small * small;
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += double(x[i]) * x[i];
  const float scale = 1.0f / (float(std::sqrt(sum)) + 1e-7f);
  for (int64_t i = 0; i < count; ++i) x[i] *= scale;
  const Factor plain{x, n, false}, turned{x, n, true};
  for (int step = 0; step < of.steps; ++step) {
    squared(small, std::max(m, n), m <= n ? plain : turned, gram);
    const Factor symmetric{gram, small, false};
    squared(small, small, symmetric, square);
    for (int64_t i = 0; i < small * small; ++i) gram[i] = of.b * gram[i] + of.c * square[i];
    if (m <= n) {
      multiply(m, n, m, symmetric, turned, product, Alone());
    } else {
      multiply(m, n, n, plain, symmetric, product, Alone());
    }
    for (int64_t i = 0; i < count; ++i) x[i] = of.a * x[i] + product[i];
  }
}

}  // namespace

// terms (9), then k weights (m, n), k buffers of momentum, k gradients -> 1 when done.
extern "C" int muon_of_many(int count, void **data, int *, int64_t **shape, const char **, void *,
                            void *) {
  const Terms of = *(const Terms *)data[0];
  const int64_t matrices = (count - 2) / 3;
  Team::get().run(matrices, [&](int64_t number) {
    const int64_t m = shape[1 + number][0], n = shape[1 + number][1];
    float *weight = (float *)data[1 + number], *buffer = (float *)data[1 + matrices + number];
    const float *gradient = (const float *)data[1 + 2 * matrices + number];
    const Scratch update(m * n);
    float *x = update.get();
    for (int64_t i = 0; i < m * n; ++i) {
      const float g = gradient[i] * of.clip;
      buffer[i] = of.momentum * buffer[i] + g;
      x[i] = of.momentum * buffer[i] + g;
    }
    orthogonalise(of, m, n, x);
    const float size = of.rate * of.size * std::sqrt(float(std::max(m, n)));
    for (int64_t i = 0; i < m * n; ++i) weight[i] = weight[i] * of.kept - size * x[i];
  });
  *(float *)data[count - 1] = 1.0f;
  return 0;
}
