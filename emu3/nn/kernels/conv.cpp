// Convolutions of maps (b, c, h, w) that keep h and w, and their slopes.
//
// A strip of rows with its edges is copied into rows `wide` = w + side - 1 long. There the numbers
// that one tap of the kernel meets are a shifted copy of the strip, so that products run along it
// with no columns to build; what stands between two rows of the output is computed and dropped.
// Kernels of 3 x 3 on maps and channels that are not too few go another way, see winograd.h.

#include <vector>

#include "team.h"
#include "tiles.h"
#include "winograd.h"

namespace {

constexpr int64_t STRIP = 512;    // numbers of a map that are worked on together, about
constexpr int64_t TAPS = 512;     // taps of as many channels of the output whose weights stay in
constexpr int64_t OUTPUTS = 64;   // the caches for a strip
constexpr int64_t CHANNELS = 16;  // channels of x whose taps one thread learns
constexpr int64_t UNITS = 16;     // pieces of work that the slope of the weight is split into

struct Shape {
  int64_t batch, in, out, height, width, side;
  int64_t map() const { return height * width; }
  int64_t square() const { return side * side; }
  int64_t taps() const { return in * square(); }
  int64_t wide() const { return width + side - 1; }
  int64_t strip_rows() const {
    const int64_t fitting = std::clamp<int64_t>(STRIP / wide(), 1, height);
    const int64_t count = (height + fitting - 1) / fitting;
    const bool odd = batch * count % 2 && count < height;  // two threads would end apart
    return (height + count + odd - 1) / (count + odd);
  }
  int64_t strips() const { return (height + strip_rows() - 1) / strip_rows(); }
  int64_t plane() const { return (strip_rows() + side - 1) * wide(); }  // of a strip's channel
  int64_t panels() const { return (strip_rows() * wide() + PANEL - 1) / PANEL; }
};

// Where each tap of some channels finds its numbers in a strip.
std::vector<int64_t> offsets(const Shape &size, int64_t channels) {
  std::vector<int64_t> at;
  for (int64_t c = 0; c < channels; ++c)
    for (int64_t i = 0; i < size.square(); ++i)
      at.push_back(c * size.plane() + i / size.side * size.wide() + i % size.side);
  return at;
}

// Rows first..first+rows-1 of some maps and what is around them, zeros beyond the maps' edges.
void copy_strip(const Shape &size, const float *maps, int64_t channels, int64_t first, int64_t rows,
                float *to) {
  const int64_t pad = size.side / 2;
  std::fill_n(to, channels * size.plane() + 2 * PANEL, 0.0f);
  for (int64_t c = 0; c < channels; ++c)
    for (int64_t row = 0; row < rows + size.side - 1; ++row) {
      const int64_t y = first + row - pad;
      if (y >= 0 && y < size.height)
        std::copy_n(maps + c * size.map() + y * size.width, size.width,
                    to + c * size.plane() + row * size.wide() + pad);
    }
}

// `rows` rows of weights, `line` long, times PANEL places of a strip; the sums begin with a bias
// each, or with what `out` holds.
template <int rows>
void conv_tile(const float *weight, int64_t line, const float *bias, bool add, const float *strip,
               const int64_t *at, int64_t taps, float *out, int64_t out_line) {
  Floats sum[rows][BANKS];
  for (int i = 0; i < rows; ++i)
    for (int j = 0; j < BANKS; ++j)
      sum[i][j] = add ? load(out + i * out_line + j * LANES) : every(bias ? bias[i] : 0.0f);
  for (int64_t k = 0; k < taps; ++k) {
    Floats column[BANKS];
    for (int j = 0; j < BANKS; ++j) column[j] = load(strip + at[k] + j * LANES);
    for (int i = 0; i < rows; ++i) {
      const Floats value = every(weight[i * line + k]);
      for (int j = 0; j < BANKS; ++j) sum[i][j] += value * column[j];
    }
  }
  for (int i = 0; i < rows; ++i)
    for (int j = 0; j < BANKS; ++j) store(out + i * out_line + j * LANES, sum[i][j]);
}

// All output channels (out, line) of the first `places` places of a strip.
void convolve_strip(const Shape &size, const float *strip, const int64_t *at, const float *weight,
                    const float *bias, int64_t places, float *made) {
  const int64_t all = size.taps(), line = size.panels() * PANEL;
  for (int64_t k = 0; k < all; k += TAPS)
    for (int64_t begin = 0; begin < size.out; begin += OUTPUTS) {
      const int64_t end = std::min(size.out, begin + OUTPUTS), taps = std::min(TAPS, all - k);
      for (int64_t place = 0; place < places; place += PANEL) {
        const auto tile = [&](auto run, int64_t c) {
          run(weight + c * all + k, all, bias ? bias + c : nullptr, k > 0, strip + place, at + k,
              taps, made + c * line + place, line);
        };
        int64_t c = begin;
        for (; c + BLOCK <= end; c += BLOCK) tile(conv_tile<BLOCK>, c);
        for (; c < end; ++c) tile(conv_tile<1>, c);
      }
    }
}

// x (b, in, h, w), weight (out, in, side, side), bias (out) or none -> out (b, out, h, w).
void convolve(const Shape &size, const float *x, const float *weight, const float *bias,
              float *out) {
  const winograd::Shape maps{size.batch, size.in, size.out, size.height, size.width};
  if (winograd::fits(size.side, maps)) return winograd::convolve(maps, x, weight, bias, out);
  const std::vector<int64_t> table = offsets(size, size.in);
  const int64_t *at = table.data(), line = size.panels() * PANEL;
  Team::get().run(size.batch * size.strips(), [=](int64_t piece) {
    const int64_t image = piece / size.strips(), first = piece % size.strips() * size.strip_rows();
    const int64_t rows = std::min(size.strip_rows(), size.height - first);
    Scratch room(size.in * size.plane() + 2 * PANEL + size.out * line);
    float *strip = room.get(), *made = strip + size.in * size.plane() + 2 * PANEL;
    copy_strip(size, x + image * size.in * size.map(), size.in, first, rows, strip);
    convolve_strip(size, strip, at, weight, bias, rows * size.wide(), made);
    float *to = out + image * size.out * size.map() + first * size.width;
    for (int64_t c = 0; c < size.out; ++c)
      for (int64_t row = 0; row < rows; ++row)
        std::copy_n(made + c * line + row * size.wide(), size.width,
                    to + c * size.map() + row * size.width);
  });
}

// `rows` taps of a strip times a panel of slopes [place][PANEL], added to sums (rows, PANEL).
template <int rows>
void learn_tile(const float *strip, const int64_t *at, const float *slopes, int64_t places,
                float *sums) {
  const float *from[rows];
  Floats sum[rows][BANKS];
  for (int i = 0; i < rows; ++i) {
    from[i] = strip + at[i];
    for (int j = 0; j < BANKS; ++j) sum[i][j] = load(sums + i * PANEL + j * LANES);
  }
  for (int64_t k = 0; k < places; ++k) {
    Floats column[BANKS];
    for (int j = 0; j < BANKS; ++j) column[j] = load(slopes + k * PANEL + j * LANES);
    for (int i = 0; i < rows; ++i) {
      const Floats value = every(from[i][k]);
      for (int j = 0; j < BANKS; ++j) sum[i][j] += value * column[j];
    }
  }
  for (int i = 0; i < rows; ++i)
    for (int j = 0; j < BANKS; ++j) store(sums + i * PANEL + j * LANES, sum[i][j]);
}

// Slopes of up to PANEL channels of a strip's rows as [place][PANEL], zeros between the rows.
void pack_slopes(const Shape &size, const float *slope, int64_t channels, int64_t rows, float *to) {
  const int64_t between = (size.side - 1) * PANEL;
  for (int64_t row = 0; row < rows; ++row, slope += size.width) {
    pack_rows<PANEL>(slope, size.map(), channels, size.width, to);
    std::fill_n(to + size.width * PANEL, between, 0.0f);
    to += size.wide() * PANEL;
  }
}

// The slope of the weight (out, in, side, side). Each thread takes the taps of a few channels and
// some of the images; sums over the images' parts have one order.
void learn(const Shape &size, const float *x, const float *slope, float *by_weight) {
  const int64_t blocks = (size.in + CHANNELS - 1) / CHANNELS;
  const int64_t parts = std::clamp<int64_t>(UNITS / blocks, 1, size.batch);
  const int64_t sheets = (size.out + PANEL - 1) / PANEL, taps = size.taps();
  const std::vector<int64_t> table = offsets(size, CHANNELS);
  const int64_t *at = table.data();
  Scratch parted(parts * sheets * taps * PANEL);
  float *sums = parted.get();  // [part][sheet][tap][PANEL]
  Team::get().run(blocks * parts, [=](int64_t piece) {
    const int64_t part = piece / blocks, begin = piece % blocks * CHANNELS;
    const int64_t channels = std::min(CHANNELS, size.in - begin), own = channels * size.square();
    float *mine = sums + (part * sheets * taps + begin * size.square()) * PANEL;
    for (int64_t sheet = 0; sheet < sheets; ++sheet)
      std::fill_n(mine + sheet * taps * PANEL, own * PANEL, 0.0f);
    Scratch room(channels * size.plane() + 2 * PANEL + size.strip_rows() * size.wide() * PANEL);
    float *strip = room.get(), *turned = strip + channels * size.plane() + 2 * PANEL;
    for (int64_t image = part; image < size.batch; image += parts)
      for (int64_t first = 0; first < size.height; first += size.strip_rows()) {
        const int64_t rows = std::min(size.strip_rows(), size.height - first);
        copy_strip(size, x + (image * size.in + begin) * size.map(), channels, first, rows, strip);
        for (int64_t sheet = 0; sheet < sheets; ++sheet) {
          const int64_t c = sheet * PANEL, places = rows * size.wide();
          pack_slopes(size, slope + (image * size.out + c) * size.map() + first * size.width,
                      std::min<int64_t>(PANEL, size.out - c), rows, turned);
          float *to = mine + sheet * taps * PANEL;
          int64_t k = 0;
          for (; k + BLOCK <= own; k += BLOCK)
            learn_tile<BLOCK>(strip, at + k, turned, places, to + k * PANEL);
          for (; k < own; ++k) learn_tile<1>(strip, at + k, turned, places, to + k * PANEL);
        }
      }
  });
  Team::get().run(size.out, [=](int64_t c) {
    for (int64_t k = 0; k < taps; ++k) {
      float sum = 0.0f;
      for (int64_t part = 0; part < parts; ++part)
        sum += sums[((part * sheets + c / PANEL) * taps + k) * PANEL + c % PANEL];
      by_weight[c * taps + k] = sum;
    }
  });
}

// The slope of the bias (out).
void learn_bias(const Shape &size, const float *slope, float *by_bias) {
  Team::get().run(size.out, [=](int64_t c) {
    double sum = 0;
    for (int64_t image = 0; image < size.batch; ++image) {
      const float *from = slope + (image * size.out + c) * size.map();
      Floats part = {};
      for (int64_t i = 0; i < size.map(); i += LANES)
        part += some(from + i, std::min<int64_t>(LANES, size.map() - i));
      sum += total(part);
    }
    by_bias[c] = float(sum);
  });
}

Shape shape_of(const int64_t *x, const int64_t *weight) {
  return {x[0], weight[1], weight[0], x[2], x[3], weight[2]};
}

}  // namespace

// x (b, in, h, w), weight (out, in, side, side), bias (out) -> (b, out, h, w); side is odd.
extern "C" int conv(int, void **data, int *, int64_t **shape, const char **, void *, void *) {
  convolve(shape_of(shape[0], shape[1]), (const float *)data[0], (const float *)data[1],
           (const float *)data[2], (float *)data[3]);
  return 0;
}

// slope of out (b, out, h, w), weight -> slope of x: the convolution with turned kernels.
extern "C" int conv_grad_x(int, void **data, int *, int64_t **shape, const char **, void *,
                           void *) {
  const Shape size = shape_of(shape[0], shape[1]);
  const float *weight = (const float *)data[1];
  const int64_t square = size.square();
  Scratch room(size.out * size.taps());
  float *turned = room.get();
  for (int64_t out = 0; out < size.out; ++out)
    for (int64_t in = 0; in < size.in; ++in)
      for (int64_t i = 0; i < square; ++i)
        turned[(in * size.out + out) * square + i] =
            weight[(out * size.in + in) * square + square - 1 - i];
  Shape back = size;
  std::swap(back.in, back.out);
  convolve(back, (const float *)data[0], turned, nullptr, (float *)data[2]);
  return 0;
}

// x, weight, slope of out -> slopes of weight and bias.
extern "C" int conv_grad_weight(int, void **data, int *, int64_t **shape, const char **, void *,
                                void *) {
  const Shape size = shape_of(shape[0], shape[1]);
  const float *slope = (const float *)data[2];
  learn(size, (const float *)data[0], slope, (float *)data[3]);
  learn_bias(size, slope, (float *)data[4]);
  return 0;
}
