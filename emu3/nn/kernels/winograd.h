// Convolutions with kernels of 3 x 3, in 16 products for 4 places where there are 36 (Winograd
// 1980; Lavin & Gray 2016, arXiv 1509.09308, F(2x2, 3x3)).
//
//     tile of x (4 x 4)  -> 16 numbers
//                                      products over the channels of x -> 16 -> 2 x 2 of the output
//     kernel (3 x 3)     -> 16 numbers
//
// Tiles lie two places apart. Each of the 16 has a matrix of its own: (out, in) times (in, tiles).
#pragma once

#include "team.h"
#include "tiles.h"

namespace winograd {

constexpr int64_t TILES = 128;         // that are worked on together, about
constexpr int64_t OUTS = 2 * BLOCK;    // channels of the output whose products are held at a time
constexpr int64_t FEWEST = 16;         // channels; with fewer the turning costs more than it saves
constexpr int64_t SMALLEST = 64;       // places of a map; smaller ones fill no panels

struct Shape {
  int64_t batch, in, out, height, width;
  int64_t down() const { return (height + 1) / 2; }   // tiles of a map
  int64_t along() const { return (width + 1) / 2; }
  int64_t cols() const { return std::min(along(), TILES); }  // tiles of a block
  int64_t rows() const { return std::clamp<int64_t>(TILES / cols(), 1, down()); }
  int64_t blocks_down() const { return (down() + rows() - 1) / rows(); }
  int64_t blocks_along() const { return (along() + cols() - 1) / cols(); }
  int64_t line() const { return (rows() * cols() + PANEL - 1) / PANEL * PANEL + LANES; }
  int64_t blocks() const { return batch * blocks_down() * blocks_along(); }
  int64_t edge() const { return (2 * rows() + 2) * 2 * half(); }  // room for parts of rows
  int64_t half() const { return (cols() + 1 + 2 * LANES - 1) / LANES * LANES; }
};

inline bool fits(int64_t side, const Shape &size) {
  return side == 3 && std::min(size.in, size.out) >= FEWEST &&
         size.height * size.width >= SMALLEST;
}

// Kernels (out, in, 3, 3) -> (16, out, in).
inline void turn_kernels(const Shape &size, const float *weight, float *to) {
  const int64_t all = size.out * size.in;
  Team::get().run(size.out, [=](int64_t out) {
    for (int64_t i = out * size.in; i < (out + 1) * size.in; ++i) {
      const float *g = weight + 9 * i;
      float t[4][3];
      for (int j = 0; j < 3; ++j) {
        const float sum = g[j] + g[6 + j];
        t[0][j] = g[j], t[1][j] = 0.5f * (sum + g[3 + j]);
        t[2][j] = 0.5f * (sum - g[3 + j]), t[3][j] = g[6 + j];
      }
      for (int k = 0; k < 4; ++k) {
        const float sum = t[k][0] + t[k][2];
        to[(4 * k) * all + i] = t[k][0];
        to[(4 * k + 1) * all + i] = 0.5f * (sum + t[k][1]);
        to[(4 * k + 2) * all + i] = 0.5f * (sum - t[k][1]);
        to[(4 * k + 3) * all + i] = t[k][2];
      }
    }
  });
}

// A block of an image's tiles: the first one's place among the map's, and how many there are.
struct Block {
  int64_t image, top, left, rows, cols;
  Block(const Shape &size, int64_t number) {
    const int64_t across = size.blocks_along(), down = number / across % size.blocks_down();
    image = number / across / size.blocks_down();
    top = down * size.rows(), left = number % across * size.cols();
    rows = std::min(size.rows(), size.down() - top);
    cols = std::min(size.cols(), size.along() - left);
  }
  int64_t tiles() const { return rows * cols; }
};

// Row y of a map: columns x, x + 2, ... and x + 1, x + 3, ..., zeros beyond the map.
inline void part_row(const Shape &size, const float *map, int64_t y, int64_t x, int64_t count,
                     float *even, float *odd) {
  const auto there = [&](int64_t at) { return at >= 0 && at < size.width; };
  if (y < 0 || y >= size.height) {
    std::fill_n(even, count, 0.0f);
    std::fill_n(odd, count, 0.0f);
    return;
  }
  const float *row = map + y * size.width;
  int64_t i = 0;
  for (; i < count && !there(x + 2 * i); ++i)
    even[i] = 0.0f, odd[i] = there(x + 2 * i + 1) ? row[x + 2 * i + 1] : 0.0f;
  for (; i < count && there(x + 2 * i + 1); ++i)
    even[i] = row[x + 2 * i], odd[i] = row[x + 2 * i + 1];
  for (; i < count; ++i) even[i] = there(x + 2 * i) ? row[x + 2 * i] : 0.0f, odd[i] = 0.0f;
}

// The tiles of a block of one map: 16 numbers each, `step` apart.
inline void turn_tiles(const Shape &size, const float *map, const Block &block, int64_t step,
                       float *room, float *to) {
  const int64_t half = size.half();
  for (int64_t y = 0; y < 2 * block.rows + 2; ++y)
    part_row(size, map, 2 * block.top - 1 + y, 2 * block.left - 1, block.cols + 1,
             room + 2 * y * half, room + (2 * y + 1) * half);
  for (int64_t row = 0; row < block.rows; ++row)
    // What a last vector has too many is written over by the next row.
    for (int64_t i = 0; i < block.cols; i += LANES) {
      Floats t[4][4];
      for (int y = 0; y < 4; ++y) {
        const float *even = room + (2 * row + y) * 2 * half + i, *odd = even + half;
        const Floats b = load(odd), c = load(even + 1);
        t[y][0] = load(even) - c, t[y][1] = b + c, t[y][2] = c - b, t[y][3] = b - load(odd + 1);
      }
      float *place = to + row * block.cols + i;
      for (int j = 0; j < 4; ++j) {
        store(place + j * step, t[0][j] - t[2][j]);
        store(place + (4 + j) * step, t[1][j] + t[2][j]);
        store(place + (8 + j) * step, t[2][j] - t[1][j]);
        store(place + (12 + j) * step, t[1][j] - t[3][j]);
      }
    }
}

// 16 numbers a tile, `step` apart -> places of the output's map, a bias added.
inline void turn_back(const Shape &size, const float *from, int64_t step, const Block &block,
                      float bias, float *room, float *map) {
  const int64_t half = size.half();
  float *sides[2][2] = {{room, room + half}, {room + 2 * half, room + 3 * half}};
  for (int64_t row = 0; row < block.rows; ++row) {
    for (int64_t i = 0; i < block.cols; i += LANES) {
      const float *place = from + row * block.cols + i;
      Floats t[2][4];
      for (int j = 0; j < 4; ++j) {
        const Floats b = load(place + (4 + j) * step), c = load(place + (8 + j) * step);
        t[0][j] = load(place + j * step) + b + c, t[1][j] = b - c - load(place + (12 + j) * step);
      }
      for (int y = 0; y < 2; ++y) {
        store(sides[y][0] + i, t[y][0] + t[y][1] + t[y][2] + bias);
        store(sides[y][1] + i, t[y][1] - t[y][2] - t[y][3] + bias);
      }
    }
    for (int64_t y = 0; y < 2 && 2 * (block.top + row) + y < size.height; ++y) {
      float *to = map + (2 * (block.top + row) + y) * size.width + 2 * block.left;
      const int64_t count = std::min(2 * block.cols, size.width - 2 * block.left);
      for (int64_t i = 0; i < count / 2; ++i)
        to[2 * i] = sides[y][0][i], to[2 * i + 1] = sides[y][1][i];
      if (count % 2) to[count - 1] = sides[y][0][count / 2];
    }
  }
}

// x (b, in, h, w), weight (out, in, 3, 3), bias (out) or none -> out (b, out, h, w).
inline void convolve(const Shape &size, const float *x, const float *weight, const float *bias,
                     float *out) {
  Scratch kernels(16 * size.out * size.in);
  turn_kernels(size, weight, kernels.get());
  const float *turned = kernels.get();
  const int64_t line = size.line(), map = size.height * size.width;
  Team::get().run(size.blocks(), [=](int64_t piece) {
    const Block block(size, piece);
    const int64_t step = size.in * line, held = OUTS * line, all = size.out * size.in;
    Scratch room(16 * (step + held) + size.edge());
    float *maps = room.get(), *made = maps + 16 * step, *edge = made + 16 * held;
    for (int64_t c = 0; c < size.in; ++c)
      turn_tiles(size, x + (block.image * size.in + c) * map, block, step, edge, maps + c * line);
    for (int64_t first = 0; first < size.out; first += OUTS) {
      const int64_t count = std::min(OUTS, size.out - first);
      for (int k = 0; k < 16; ++k)
        for (int64_t place = 0; place < block.tiles(); place += PANEL)
          tiles<true>(count, turned + k * all + first * size.in, size.in, 1,
                      maps + k * step + place, line, size.in, made + k * held + place, line, PANEL,
                      false);
      for (int64_t c = first; c < first + count; ++c)
        turn_back(size, made + (c - first) * line, held, block, bias ? bias[c] : 0.0f, edge,
                  out + (block.image * size.out + c) * map);
    }
  });
}

}  // namespace winograd
