// Group normalisation of maps (b, c, h, w), perhaps a scale and a shift for each pixel, perhaps
// swish: all in one pass over a group, which stays in the caches. A group is one thread's work, so
// that sums have one order whatever the number of threads.
//
//     y = (x - mean) / deviation * weight + bias,  z = y * scale + shift,  out = z * sigmoid(z)
//
// Maps of scale and shift are smaller by a factor and enlarged by nearest neighbour, a strip of
// rows at a time.

#include "arithmetic.h"
#include "pixels.h"
#include "team.h"

namespace {

constexpr int64_t STRIP = 2048;  // numbers of a map that are worked on together

struct Shape {
  int64_t batch, channels, height, width, groups;
  int64_t factor = 1;  // by which scale and shift are enlarged
  bool active;
  float eps;

  int64_t map() const { return height * width; }
  int64_t together() const { return channels / groups; }  // channels of a group
  int64_t rows() const { return height / factor; }        // of scale and shift
  int64_t columns() const { return width / factor; }
  int64_t strip_rows() const { return std::max<int64_t>(1, STRIP / (width * factor)); }
  int64_t strip() const { return strip_rows() * factor * width; }
};

// Inputs x, weight, bias, settings (groups, eps, 1 for swish), then perhaps scale and shift.
// False where they do not fit together.
bool read(void **data, int64_t **shape, bool mapped, Shape &size) {
  const float *settings = (const float *)data[3];
  size.batch = shape[0][0], size.channels = shape[0][1];
  size.height = shape[0][2], size.width = shape[0][3];
  size.groups = int64_t(settings[0]), size.eps = settings[1], size.active = settings[2] != 0;
  if (size.channels % size.groups) return false;
  if (!mapped) return true;
  if (!std::equal(shape[0], shape[0] + 2, shape[4])) return false;
  if (!std::equal(shape[4], shape[4] + 4, shape[5])) return false;
  size.factor = size.height / shape[4][2];
  return size.factor > 0 && shape[4][2] * size.factor == size.height &&
         shape[4][3] * size.factor == size.width;
}

struct Moments {
  float mean, rate;  // rate = 1 / deviation
};

// In one pass over memory: moments of short stretches, joined (Chan, Golub & LeVeque 1983).
Moments moments(const float *x, int64_t count, float eps) {
  double mean = 0, squares = 0;
  for (int64_t start = 0; start < count; start += STRIP) {
    const float *from = x + start;
    const int64_t size = std::min(STRIP, count - start), whole = size / LANES * LANES;
    Floats sums = {};
    for (int64_t i = 0; i < whole; i += LANES) sums += load(from + i);
    float sum = total(sums);
    for (int64_t i = whole; i < size; ++i) sum += from[i];
    const float middle = sum / float(size);
    Floats apart = {};
    for (int64_t i = 0; i < whole; i += LANES) {
      const Floats centred = load(from + i) - middle;
      apart += centred * centred;
    }
    float own = total(apart);
    for (int64_t i = whole; i < size; ++i) own += (from[i] - middle) * (from[i] - middle);
    const double away = middle - mean, share = double(size) / double(start + size);
    mean += away * share;
    squares += own + away * away * share * double(start);
  }
  return {float(mean), 1.0f / std::sqrt(float(squares / double(count)) + eps)};
}

// Scale or shift of a strip as large as x's, in `room` if it must be enlarged.
const float *as_large(const Shape &size, const float *map, int64_t row, int64_t rows, float *room) {
  const float *from = map + row * size.columns();
  if (size.factor == 1) return from;
  enlarge(from, rows, size.columns(), size.factor, room);
  return room;
}

// each(first pixel, pixels, first row of scale, rows of scale) for the strips of a map.
template <class Each>
void strips(const Shape &size, const Each &each) {
  for (int64_t row = 0; row < size.rows(); row += size.strip_rows()) {
    const int64_t rows = std::min(size.strip_rows(), size.rows() - row);
    each(row * size.factor * size.width, rows * size.factor * size.width, row, rows);
  }
}

template <bool mapped, bool active>
void forward(const Shape &size, void **data) {
  const float *x = (const float *)data[0];
  const float *weight = (const float *)data[1], *bias = (const float *)data[2];
  const float *scale = mapped ? (const float *)data[4] : nullptr;
  const float *shift = mapped ? (const float *)data[5] : nullptr;
  float *out = (float *)data[mapped ? 6 : 4];
  const int64_t together = size.together(), map = size.map(), small = size.rows() * size.columns();
  Team::get().run(size.batch * size.groups, [=](int64_t group) {
    const Moments of = moments(x + group * together * map, together * map, size.eps);
    Scratch room(mapped ? 2 * size.strip() : 0);
    for (int64_t k = group * together; k < (group + 1) * together; ++k) {
      const int64_t channel = k % size.channels;
      const float factor = of.rate * weight[channel], offset = bias[channel];
      strips(size, [&](int64_t first, int64_t count, int64_t row, int64_t rows) {
        const float *from = x + k * map + first, *s = nullptr, *t = nullptr;
        if (mapped) {
          s = as_large(size, scale + k * small, row, rows, room.get());
          t = as_large(size, shift + k * small, row, rows, room.get() + size.strip());
        }
        const auto value = [&](int64_t i, int64_t n) {
          Floats z = (some(from + i, n) - of.mean) * factor + offset;
          if (mapped) z = z * some(s + i, n) + some(t + i, n);
          return active ? z * sigmoid(z) : z;
        };
        float *to = out + k * map + first;
        const int64_t whole = count / LANES * LANES;
        for (int64_t i = 0; i < whole; i += LANES) store(to + i, value(i, LANES));
        if (whole < count) store_first(to + whole, value(whole, count - whole), count - whole);
      });
    }
  });
}

// Slopes of a channel's y, into by_x, and their sums: alone, and by the normalised x.
struct Sums {
  double alone = 0, by_normal = 0;
};

// One strip of a channel, all pointers at its first pixel; `s` and `t` are scale and shift.
template <bool mapped, bool active>
void back_through(const float *x, const float *slope, int64_t count, Moments of, float weight,
                  float bias, const float *s, const float *t, float *by_x, float *by_scale,
                  float *by_shift, Sums &sums) {
  Floats alone = {}, by_normal = {};
  const auto stretch = [&](int64_t i, int64_t n) {
    const Floats normal = (some(x + i, n) - of.mean) * of.rate, y = normal * weight + bias;
    const Floats z = mapped ? y * some(s + i, n) + some(t + i, n) : y;
    Floats down = some(slope + i, n);
    if (active) {
      const Floats open = sigmoid(z);
      down *= open * (1.0f + z * (1.0f - open));
    }
    if (mapped) {
      keep(by_shift + i, down, n);
      keep(by_scale + i, down * y, n);
      down *= some(s + i, n);
    }
    keep(by_x + i, down, n);
    alone += down;
    by_normal += down * normal;
  };
  const int64_t whole = count / LANES * LANES;
  for (int64_t i = 0; i < whole; i += LANES) stretch(i, LANES);
  if (whole < count) stretch(whole, count - whole);
  sums.alone += total(alone);
  sums.by_normal += total(by_normal);
}

// Slopes of a channel's y become those of x; `all` are sums over the `count` numbers of its group.
void through_moments(const float *x, int64_t map, Moments of, float weight, const Sums &all,
                     int64_t count, float *by_x) {
  const float factor = of.rate * weight, level = of.rate * float(all.alone / double(count));
  const float tilt = of.rate * of.rate * float(all.by_normal / double(count));
  for (int64_t i = 0; i < map; ++i)
    by_x[i] = by_x[i] * factor - level - (x[i] - of.mean) * tilt;
}

// (b, c) -> (c), in one order.
void sum_images(const Shape &size, const float *parts, float *to) {
  std::copy_n(parts, size.channels, to);
  for (int64_t b = 1; b < size.batch; ++b)
    for (int64_t c = 0; c < size.channels; ++c) to[c] += parts[b * size.channels + c];
}

template <bool mapped, bool active>
void backward(const Shape &size, void **data) {
  const float *x = (const float *)data[0];
  const float *weight = (const float *)data[1], *bias = (const float *)data[2];
  const float *scale = mapped ? (const float *)data[4] : nullptr;
  const float *shift = mapped ? (const float *)data[5] : nullptr;
  void **rest = data + (mapped ? 6 : 4);
  const float *slope = (const float *)rest[0];
  float *by_x = (float *)rest[1], *by_weight = (float *)rest[2], *by_bias = (float *)rest[3];
  float *by_scale = mapped ? (float *)rest[4] : nullptr;
  float *by_shift = mapped ? (float *)rest[5] : nullptr;
  const int64_t together = size.together(), map = size.map(), small = size.rows() * size.columns();
  const int64_t channels = size.channels, strip = size.strip();
  Scratch parts(2 * size.batch * channels);
  float *weight_part = parts.get(), *bias_part = weight_part + size.batch * channels;
  Team::get().run(size.batch * size.groups, [=](int64_t group) {
    const int64_t begin = group * together, end = begin + together;
    const Moments of = moments(x + begin * map, together * map, size.eps);
    Scratch room(mapped ? 4 * strip : 0);
    float *large = room.get();
    Sums all;
    for (int64_t k = begin; k < end; ++k) {
      const float w = weight[k % channels], b = bias[k % channels];
      Sums own;
      strips(size, [&](int64_t first, int64_t count, int64_t row, int64_t rows) {
        const int64_t from = k * map + first, place = k * small + row * size.columns();
        const bool direct = size.factor == 1;
        const float *s = nullptr, *t = nullptr;
        float *by_s = nullptr, *by_t = nullptr;
        if (mapped) {
          s = as_large(size, scale + k * small, row, rows, large);
          t = as_large(size, shift + k * small, row, rows, large + strip);
          by_s = direct ? by_scale + place : large + 2 * strip;
          by_t = direct ? by_shift + place : large + 3 * strip;
        }
        back_through<mapped, active>(x + from, slope + from, count, of, w, b, s, t, by_x + from,
                                     by_s, by_t, own);
        if (mapped && !direct) {
          shrink(by_s, rows, size.columns(), size.factor, by_scale + place);
          shrink(by_t, rows, size.columns(), size.factor, by_shift + place);
        }
      });
      weight_part[k] = float(own.by_normal), bias_part[k] = float(own.alone);
      all.alone += w * own.alone, all.by_normal += w * own.by_normal;
    }
    for (int64_t k = begin; k < end; ++k)
      through_moments(x + k * map, map, of, weight[k % channels], all, together * map,
                      by_x + k * map);
  });
  sum_images(size, weight_part, by_weight);
  sum_images(size, bias_part, by_bias);
}

template <bool mapped>
int run(void **data, int64_t **shape, bool back) {
  Shape size;
  if (!read(data, shape, mapped, size)) return 1;
  if (back) {
    size.active ? backward<mapped, true>(size, data) : backward<mapped, false>(size, data);
  } else {
    size.active ? forward<mapped, true>(size, data) : forward<mapped, false>(size, data);
  }
  return 0;
}

}  // namespace

// x, weight (c), bias (c), settings (3) -> like x.
extern "C" int group_norm(int, void **data, int *, int64_t **shape, const char **, void *, void *) {
  return run<false>(data, shape, false);
}

// x, weight, bias, settings, slope of out -> slopes of x, weight, bias.
extern "C" int group_norm_grad(int, void **data, int *, int64_t **shape, const char **, void *,
                               void *) {
  return run<false>(data, shape, true);
}

// x, weight, bias, settings, scale and shift (b, c, h / f, w / f) -> like x.
extern "C" int mapped_norm(int, void **data, int *, int64_t **shape, const char **, void *,
                           void *) {
  return run<true>(data, shape, false);
}

// x, weight, bias, settings, scale, shift, slope -> slopes of x, weight, bias, scale, shift.
extern "C" int mapped_norm_grad(int, void **data, int *, int64_t **shape, const char **, void *,
                                void *) {
  return run<true>(data, shape, true);
}
