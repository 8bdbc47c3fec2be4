// Copies of boxes of elements, and filling.
#include "state.hpp"

namespace groupgrad::engine::cpu {

namespace {

// For boxes whose last axis is not contiguous in x: tiles that fit into the cache in both layouts.
template <class T>
void transposeTiles(const T* x, T* y, int64_t rows, int64_t columns, int64_t strideX, int64_t strideY) {
  constexpr int64_t kTile = 16;
  for (int64_t r0 = 0; r0 < rows; r0 += kTile) {
    const int64_t r1 = std::min(rows, r0 + kTile);
    for (int64_t c0 = 0; c0 < columns; c0 += kTile) {
      const int64_t c1 = std::min(columns, c0 + kTile);
      for (int64_t r = r0; r < r1; ++r) {
        for (int64_t c = c0; c < c1; ++c) y[r * strideY + c] = x[c * strideX + r];
      }
    }
  }
}

template <class T>
void copyRow(const T* x, T* y, int64_t n, int64_t strideX, int64_t strideY) {
  if (strideY == 1 && strideX == 1) {
    std::memcpy(y, x, size_t(n) * sizeof(T));
  } else if (strideY == 1 && strideX == 0) {
    std::fill_n(y, n, *x);
  } else {
    for (int64_t i = 0; i < n; ++i) y[i * strideY] = x[i * strideX];
  }
}

template <class T>
void copyBox(State& s, const CopyRequest& r) {
  const T* x = static_cast<const T*>(r.x);
  T* y = static_cast<T*>(r.y);
  const int last = r.rank - 1;
  const int64_t length = r.shape[last];
  int together = last;  // the axis along which x lies together
  for (int axis = 0; axis < last; ++axis) {
    if (r.strideX[axis] == 1 && r.shape[axis] > 1) together = axis;
  }
  if (r.strideX[last] > 1 && r.strideY[last] == 1 && together != last) {
    // That axis and the last form a matrix; the others are iterated over.
    int64_t shape[kMaxRank], strideX[kMaxRank], strideY[kMaxRank];
    int rank = 0;
    for (int axis = 0; axis < last; ++axis) {
      if (axis == together) continue;
      shape[rank] = r.shape[axis];
      strideX[rank] = r.strideX[axis];
      strideY[rank++] = r.strideY[axis];
    }
    const int64_t matrices = Rows<2>::number(rank + 1, shape), rows = r.shape[together];
    // In pieces of 64 of the matrix's rows, because there may be only one matrix.
    constexpr int64_t kRows = 64;
    const int64_t pieces = (rows + kRows - 1) / kRows;
    s.forEach(matrices * pieces, matrices * rows * length, kValuesPerThread, [&](int64_t unit) {
      Rows<2> walk(rank + 1, shape, {strideX, strideY});
      walk.seek(unit / pieces);
      const int64_t first = unit % pieces * kRows;
      transposeTiles(x + walk.offsets[0] + first, y + walk.offsets[1] + first * r.strideY[together],
                     std::min(kRows, rows - first), length, r.strideX[last], r.strideY[together]);
    });
    return;
  }
  const int64_t rows = Rows<2>::number(r.rank, r.shape);
  s.split(rows * length, kValuesPerThread, [&](int64_t begin, int64_t end) {
    if (begin >= end) return;
    Rows<2> walk(r.rank, r.shape, {r.strideX, r.strideY});
    walk.seek(begin / length);
    for (int64_t at = begin; at < end; walk.next()) {
      const int64_t column = at % length, n = std::min(end - at, length - column);
      copyRow(x + walk.offsets[0] + column * r.strideX[last], y + walk.offsets[1] + column * r.strideY[last], n,
              r.strideX[last], r.strideY[last]);
      at += n;
    }
  });
}

}  // namespace

Status copy(void* state, const CopyRequest& r) {
  State& s = *static_cast<State*>(state);
  if (r.bytes == 4) {
    copyBox<uint32_t>(s, r);
  } else {
    copyBox<uint8_t>(s, r);
  }
  return {};
}

Status fill(void* state, const FillRequest& r) {
  State& s = *static_cast<State*>(state);
  s.split(r.size, kValuesPerThread, [&](int64_t begin, int64_t end) {
    if (r.bytes == 4) {
      std::fill(static_cast<uint32_t*>(r.y) + begin, static_cast<uint32_t*>(r.y) + end, r.value);
    } else {
      std::memset(static_cast<uint8_t*>(r.y) + begin, int(r.value & 0xff), size_t(end - begin));
    }
  });
  return {};
}

}  // namespace groupgrad::engine::cpu
