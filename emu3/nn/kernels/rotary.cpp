// Rows of heads side by side to heads with rows below each other, turned by their positions or as
// they are; and the way back. x (B, T, H * D) <-> (B, H, T, D); cos and sin (B or 1, T, D), halves
// of D paired.

#include "arithmetic.h"
#include "team.h"

namespace {

struct Sizes {
  int64_t batch, tokens, heads, width, tables;
};

// each(place in (B, T, H, D), place in (B, H, T, D), cos, sin) for every row of a head.
template <class Each>
void each_head(const Sizes &size, const float *cosine, const float *sine, const Each &each) {
  Team::get().run(size.batch * size.tokens, [&](int64_t line) {
    const int64_t b = line / size.tokens, t = line % size.tokens;
    const int64_t table = ((size.tables == 1 ? 0 : b) * size.tokens + t) * size.width;
    for (int64_t h = 0; h < size.heads; ++h)
      each((line * size.heads + h) * size.width,
           ((b * size.heads + h) * size.tokens + t) * size.width, cosine + table, sine + table);
  });
}

// x (B, lines, count, width) -> (B, count, lines, width), stretches of `width` numbers as they are.
void exchange(const int64_t *shape, int64_t lines, int64_t count, int64_t width, const float *x,
              float *out) {
  Team::get().run(shape[0] * lines, [=](int64_t line) {
    const int64_t b = line / lines, t = line % lines;
    for (int64_t h = 0; h < count; ++h)
      std::copy_n(x + (line * count + h) * width, width,
                  out + ((b * count + h) * lines + t) * width);
  });
}

}  // namespace

// x (B, T, H * D), cos (.., T, D) for its width -> (B, H, T, D)
extern "C" int heads(int, void **data, int *axes, int64_t **shape, const char **, void *, void *) {
  const int64_t width = shape[1][axes[1] - 1];
  exchange(shape[0], shape[0][1], shape[0][2] / width, width, (const float *)data[0],
           (float *)data[2]);
  return 0;
}

// slope of heads' output (B, H, T, D) -> slope of x (B, T, H * D)
extern "C" int heads_grad(int, void **data, int *, int64_t **shape, const char **, void *, void *) {
  exchange(shape[0], shape[0][1], shape[0][2], shape[0][3], (const float *)data[0],
           (float *)data[1]);
  return 0;
}

// x (B, T, H * D), cos, sin -> (B, H, T, D)
extern "C" int rotary(int, void **data, int *axes, int64_t **shape, const char **, void *, void *) {
  const float *x = (const float *)data[0];
  float *out = (float *)data[3];
  const int64_t width = shape[1][axes[1] - 1], half = width / 2;
  const Sizes size{shape[0][0], shape[0][1], shape[0][2] / width, width, shape[1][0]};
  each_head(size, (const float *)data[1], (const float *)data[2],
            [=](int64_t from, int64_t to, const float *c, const float *s) {
          const float *a = x + from, *b = a + half;
          float *first = out + to, *second = first + half;
          for (int64_t i = 0; i < half; ++i) {
            first[i] = a[i] * c[i] - b[i] * s[i];
            second[i] = b[i] * c[half + i] + a[i] * s[half + i];
          }
        });
  return 0;
}

// slope of rotary's output (B, H, T, D), cos, sin -> slope of x (B, T, H * D)
extern "C" int rotary_grad(int, void **data, int *axes, int64_t **shape, const char **, void *,
                           void *) {
  const float *slope = (const float *)data[0];
  float *by_x = (float *)data[3];
  const int64_t width = shape[0][3], half = width / 2;
  const Sizes size{shape[0][0], shape[0][2], shape[0][1], width, shape[1][0]};
  (void)axes;
  each_head(size, (const float *)data[1], (const float *)data[2],
        [=](int64_t to, int64_t from, const float *c, const float *s) {
          const float *a = slope + from, *b = a + half;
          float *first = by_x + to, *second = first + half;
          for (int64_t i = 0; i < half; ++i) {
            first[i] = a[i] * c[i] + b[i] * s[half + i];
            second[i] = b[i] * c[half + i] - a[i] * s[i];
          }
        });
  return 0;
}
