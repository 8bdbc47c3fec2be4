// Tiled attention: a tile of queries against a block of keys at a time, with an online softmax across blocks, so
// that the full attention matrix is never stored. Products are those of matmul.cpp: tiles of a panel of rows by
// strips of columns, whose sums do not depend on the number of rows or columns.
//
// A row of a tile is one head of queries at one position; the heads that share keys are stacked.
#include "state.hpp"

namespace groupgrad::engine::cpu {

namespace {

// Keys per block, counted from the sequence's start; results depend on it.
constexpr int64_t kBlockKeys = 128;
// Rows per tile, unless more heads share their keys.
constexpr int64_t kTileRows = 64;
static_assert(kBlockKeys <= kBlockK && kMaxSharingHeads <= kBlockK, "a panel of scores is one block of k");
// Minimum number of multiply-adds per thread.
constexpr int64_t kWorkPerThread = int64_t(1) << 18;

// A bump allocator over a thread's scratch memory. Without memory it only counts.
class Arena {
 public:
  explicit Arena(std::byte* begin = nullptr) : begin_(begin) {}
  std::byte* take(int64_t bytes) {
    std::byte* result = begin_ ? begin_ + taken_ : nullptr;
    taken_ += (bytes + 63) / 64 * 64;
    return result;
  }
  float* floats(int64_t n) { return reinterpret_cast<float*>(take(n * int64_t(sizeof(float)))); }
  int64_t taken() const { return taken_; }

 private:
  std::byte* begin_;
  int64_t taken_ = 0;
};

// A left factor of up to `capacity` rows, k wide.
class Panel {
 public:
  Panel(const Kernels& kernels, Arena& arena, int64_t capacity, int64_t k)
      : kernel_(kernels.float32),
        k_(k),
        blockBytes_((capacity + kernel_.rows) * kPanelStride),
        data_(arena.take((k + kBlockK - 1) / kBlockK * blockBytes_)) {}

  // Rows from `row` on, `stride` apart.
  void pack(const float* a, int64_t stride, int64_t row, int64_t rows) {
    for (int64_t k = 0; k < k_; k += kBlockK) {
      kernel_.packRows(a + k, stride, 1, rows, std::min(kBlockK, k_ - k), block(k) + row * kPanelStride);
    }
  }
  // For k of at most kBlockK: a row, which may be written up to kBlockK.
  float* row(int64_t r) const { return reinterpret_cast<float*>(data_ + r * kPanelStride); }
  static constexpr int64_t kRowStride = kPanelStride / int64_t(sizeof(float));

  std::byte* block(int64_t k) const { return data_ + k / kBlockK * blockBytes_; }
  const ProductKernel& kernel() const { return kernel_; }

 private:
  const ProductKernel& kernel_;
  int64_t k_, blockBytes_;
  std::byte* data_;
};

// A right factor of up to k x n, packed.
class Strips {
 public:
  Strips(const Kernels& kernels, Arena& arena, int64_t k, int64_t n)
      : kernels_(kernels), data_(arena.take(number(n) * k * columns() * int64_t(sizeof(float)))) {}

  void pack(const float* b, int64_t k, int64_t n, int64_t strideK, int64_t strideN) {
    k_ = k;
    n_ = n;
    const Matrix matrix{k, n, strideK, strideN, b, nullptr};
    for (int64_t strip = 0; strip < number(n); ++strip) {
      const int64_t column = strip * columns();
      kernels_.packFloat32(matrix, column, std::min(columns(), n - column), columns(), at(strip, 0));
    }
  }

  // c (+)= a b.
  void multiply(const Panel& a, int64_t rows, float* c, int64_t strideC, bool accumulate) const {
    const int64_t tiles = (rows + a.kernel().rows - 1) / a.kernel().rows;
    for (int64_t k = 0; k < k_; k += kBlockK) {
      for (int64_t strip = 0; strip < number(n_); ++strip) {
        const int64_t column = strip * columns();
        for (int64_t tile = 0; tile < tiles; ++tile) {
          const int64_t top = tile * rows / tiles, bottom = (tile + 1) * rows / tiles;
          a.kernel().multiply(int(bottom - top), a.block(k) + top * kPanelStride, at(strip, k),
                              std::min(kBlockK, k_ - k), c + top * strideC + column, strideC,
                              std::min(columns(), n_ - column), accumulate || k > 0, at(strip, k), 0);
        }
      }
    }
  }

 private:
  int64_t columns() const { return kernels_.float32.columns; }
  int64_t number(int64_t n) const { return (n + columns() - 1) / columns(); }
  std::byte* at(int64_t strip, int64_t k) const {
    return data_ + (strip * k_ + k) * columns() * int64_t(sizeof(float));
  }

  const Kernels& kernels_;
  std::byte* data_;
  int64_t k_ = 0, n_ = 0;
};

// Keys and values of a head from some position on, `stride` apart.
struct KeysAndValues {
  const float* key;
  const float* value;
  int64_t stride;
  KeysAndValues from(int64_t position) const { return {key + position * stride, value + position * stride, stride}; }
};

struct Shape {
  explicit Shape(const AttentionShape& s)
      : sharing(s.heads / s.keyValueHeads),
        size(s.headSize),
        window(s.window),
        scoring{s.scale, s.softCap},
        positions(std::max<int64_t>(1, kTileRows / sharing)),
        rows(positions * sharing) {}
  int64_t sharing, size, window;
  Scoring scoring;
  int64_t positions, rows;  // of a tile of queries, at most

  // The first position that `position` attends to, and its block of keys.
  int64_t first(int64_t start, int64_t position) const {
    return window == 0 ? start : std::max(start, position - window + 1);
  }
  int64_t firstBlock(int64_t start, int64_t position) const {
    return start + (first(start, position) - start) / kBlockKeys * kBlockKeys;
  }
};

// Attention of some positions, for the heads that share keys.
class ForwardTile {
 public:
  ForwardTile(const Kernels& kernels, const Shape& shape, Arena& arena)
      : kernels_(kernels),
        shape_(shape),
        queries_(kernels, arena, shape.rows, shape.size),
        scores_(kernels, arena, shape.rows, kBlockKeys),
        keys_(kernels, arena, shape.size, kBlockKeys),
        values_(kernels, arena, kBlockKeys, shape.size),
        sums_(arena.floats(shape.rows * shape.size)),
        largest_(arena.floats(shape.rows)),
        total_(arena.floats(shape.rows)) {}

  // The positions [begin, end) of a sequence that starts at `start`; their queries, results and statistics (null:
  // not computed) are `stride` and `statisticsStride` apart. keysFrom(position, count) returns keys and values.
  template <class F>
  void run(int64_t start, int64_t begin, int64_t end, const float* query, float* y, int64_t stride, float* logSumExp,
           int64_t statisticsStride, const F& keysFrom) {
    const int64_t size = shape_.size, sharing = shape_.sharing, rows = (end - begin) * sharing;
    for (int64_t p = 0; p < end - begin; ++p) queries_.pack(query + p * stride, size, p * sharing, sharing);
    std::fill_n(sums_, rows * size, 0.0f);
    std::fill_n(largest_, rows, -kInfinity);
    std::fill_n(total_, rows, 0.0f);
    for (int64_t key = shape_.firstBlock(start, begin); key < end; key += kBlockKeys) {
      const int64_t count = std::min(kBlockKeys, end - key);
      const KeysAndValues seen = keysFrom(key, count);
      keys_.pack(seen.key, size, count, 1, seen.stride);
      keys_.multiply(queries_, rows, scores_.row(0), Panel::kRowStride, false);
      for (int64_t row = 0; row < rows; ++row) {
        const int64_t position = begin + row / sharing;
        const float factor = kernels_.softmaxBlock(scores_.row(row), shape_.first(start, position) - key,
                                                   std::min(count, position + 1 - key), count, shape_.scoring,
                                                   largest_[row], total_[row]);
        float* sum = sums_ + row * size;
        if (factor != 1) kernels_.binary(Binary::multiply, sum, 1, &factor, 0, sum, size);
      }
      values_.pack(seen.value, count, size, seen.stride, 1);
      values_.multiply(scores_, rows, sums_, size, true);
    }
    for (int64_t row = 0; row < rows; ++row) {
      const int64_t p = row / sharing, h = row % sharing;
      kernels_.binary(Binary::realDiv, sums_ + row * size, 1, total_ + row, 0, y + p * stride + h * size, size);
      if (logSumExp) logSumExp[p * statisticsStride + h] = largest_[row] + std::log(total_[row]);
    }
  }

 private:
  const Kernels& kernels_;
  const Shape& shape_;
  Panel queries_, scores_;
  Strips keys_, values_;
  float *sums_, *largest_, *total_;
};

// One new position of a row: its key and value are written to the cache, and its block of keys is gathered from
// there.
class DecodeTile {
 public:
  DecodeTile(const Kernels& kernels, const Shape& shape, Arena& arena)
      : size_(shape.size),
        forward_(kernels, shape, arena),
        keys_(arena.floats(kBlockKeys * shape.size)),
        values_(arena.floats(kBlockKeys * shape.size)) {}

  // `unit`: the row and its head of keys.
  void run(const DecodeAttentionRequest& r, int64_t unit, int64_t position, const float* query, float* y) {
    const auto place = [&](int64_t p) { return (unit * r.columns + p % r.columns) * size_; };
    const size_t last = size_t(position / r.columns);
    std::copy_n(r.key + unit * size_, size_, r.keys[last] + place(position));
    std::copy_n(r.value + unit * size_, size_, r.values[last] + place(position));
    forward_.run(0, position, position + 1, query, y, 0, nullptr, 0, [&](int64_t begin, int64_t count) {
      for (int64_t p = begin; p < begin + count;) {
        const int64_t together = std::min(begin + count - p, r.columns - p % r.columns);
        const size_t block = size_t(p / r.columns);
        std::copy_n(r.keys[block] + place(p), together * size_, keys_ + (p - begin) * size_);
        std::copy_n(r.values[block] + place(p), together * size_, values_ + (p - begin) * size_);
        p += together;
      }
      return KeysAndValues{keys_, values_, size_};
    });
  }

 private:
  int64_t size_;
  ForwardTile forward_;
  float *keys_, *values_;
};

// The products of a backward pass, of left rows with right rows: queries and their gradients with keys and values,
// or vice versa.
class BackwardTile {
 public:
  BackwardTile(const Kernels& kernels, Arena& arena, int64_t left, int64_t right, int64_t size)
      : size_(size),
        left_(kernels, arena, left, size),
        leftGradients_(kernels, arena, left, size),
        scores_(kernels, arena, left, right),
        gradients_(kernels, arena, left, right),
        transposed_(kernels, arena, size, right),
        right_(kernels, arena, right, size) {}

  void packLeft(const float* a, const float* b, int64_t stride, int64_t row, int64_t rows) {
    left_.pack(a, stride, row, rows);
    leftGradients_.pack(b, stride, row, rows);
  }
  // Products of left rows with right rows: of queries with keys, of gradients with values.
  void score(int64_t rows, const float* a, const float* b, int64_t stride, int64_t count) {
    transposed_.pack(a, size_, count, 1, stride);
    transposed_.multiply(left_, rows, scores_.row(0), Panel::kRowStride, false);
    transposed_.pack(b, size_, count, 1, stride);
    transposed_.multiply(leftGradients_, rows, gradients_.row(0), Panel::kRowStride, false);
  }
  float* scores(int64_t row) const { return scores_.row(row); }
  float* gradients(int64_t row) const { return gradients_.row(row); }
  // y += gradients a, y += scores b.
  void addGradients(int64_t rows, const float* a, int64_t stride, int64_t count, float* y) {
    right_.pack(a, count, size_, stride, 1);
    right_.multiply(gradients_, rows, y, size_, true);
  }
  void addScores(int64_t rows, const float* b, int64_t stride, int64_t count, float* y) {
    right_.pack(b, count, size_, stride, 1);
    right_.multiply(scores_, rows, y, size_, true);
  }

 private:
  int64_t size_;
  Panel left_, leftGradients_, scores_, gradients_;
  Strips transposed_, right_;
};

// A backward pass's inputs for a sequence, for one head of keys and the query heads that share it. Gradients have
// the layout of their values.
struct BackwardHead {
  int64_t start;
  const float* query;
  const float* dy;
  int64_t queryStride;  // from position to position
  KeysAndValues keys;
  const float* logSumExp;  // of the position's first head, as are `along`, the products of values with their gradients
  const float* along;
  int64_t statisticsStride;
  float* dQuery;
  float* dKey;
  float* dValue;
};

// dQuery of the positions [begin, end).
class QueryGradients {
 public:
  QueryGradients(const Kernels& kernels, const Shape& shape, Arena& arena)
      : kernels_(kernels),
        shape_(shape),
        tile_(kernels, arena, shape.rows, kBlockKeys, shape.size),
        sums_(arena.floats(shape.rows * shape.size)) {}

  void run(const BackwardHead& head, int64_t begin, int64_t end) {
    const int64_t size = shape_.size, sharing = shape_.sharing, rows = (end - begin) * sharing;
    for (int64_t p = begin; p < end; ++p) {
      const int64_t at = p * head.queryStride;
      tile_.packLeft(head.query + at, head.dy + at, size, (p - begin) * sharing, sharing);
    }
    std::fill_n(sums_, rows * size, 0.0f);
    for (int64_t key = shape_.firstBlock(head.start, begin); key < end; key += kBlockKeys) {
      const int64_t count = std::min(kBlockKeys, end - key);
      const KeysAndValues seen = head.keys.from(key);
      tile_.score(rows, seen.key, seen.value, seen.stride, count);
      for (int64_t row = 0; row < rows; ++row) {
        const int64_t position = begin + row / sharing;
        const int64_t statistic = position * head.statisticsStride + row % sharing;
        kernels_.softmaxBlockBackward(tile_.scores(row), tile_.gradients(row), shape_.first(head.start, position) - key,
                                      std::min(count, position + 1 - key), count, shape_.scoring,
                                      head.logSumExp + statistic, head.along + statistic, 0);
      }
      tile_.addGradients(rows, seen.key, seen.stride, count, sums_);
    }
    for (int64_t p = begin; p < end; ++p) {
      std::copy_n(sums_ + (p - begin) * sharing * size, sharing * size, head.dQuery + p * head.queryStride);
    }
  }

 private:
  const Kernels& kernels_;
  const Shape& shape_;
  BackwardTile tile_;
  float* sums_;
};

// dKey and dValue of the positions [begin, end) of a sequence of `length`.
class KeyGradients {
 public:
  KeyGradients(const Kernels& kernels, const Shape& shape, Arena& arena)
      : kernels_(kernels),
        shape_(shape),
        tile_(kernels, arena, kBlockKeys, shape.rows, shape.size),
        query_(arena.floats(shape.rows * shape.size)),
        dy_(arena.floats(shape.rows * shape.size)),
        logSumExp_(arena.floats(shape.rows)),
        along_(arena.floats(shape.rows)),
        dKey_(arena.floats(kBlockKeys * shape.size)),
        dValue_(arena.floats(kBlockKeys * shape.size)) {}

  void run(const BackwardHead& head, int64_t begin, int64_t end, int64_t length) {
    const int64_t size = shape_.size, sharing = shape_.sharing, rows = end - begin;
    const KeysAndValues own = head.keys.from(begin);
    tile_.packLeft(own.key, own.value, own.stride, 0, rows);
    std::fill_n(dKey_, rows * size, 0.0f);
    std::fill_n(dValue_, rows * size, 0.0f);
    // The last key is attended to by at most a window of positions.
    const int64_t last = shape_.window == 0 ? length : std::min(length, end - 1 + shape_.window);
    for (int64_t position = begin; position < last; position += shape_.positions) {
      const int64_t positions = std::min(shape_.positions, last - position), count = positions * sharing;
      for (int64_t p = 0; p < positions; ++p) {
        const int64_t at = (position + p) * head.queryStride, statistic = (position + p) * head.statisticsStride;
        std::copy_n(head.query + at, sharing * size, query_ + p * sharing * size);
        std::copy_n(head.dy + at, sharing * size, dy_ + p * sharing * size);
        std::copy_n(head.logSumExp + statistic, sharing, logSumExp_ + p * sharing);
        std::copy_n(head.along + statistic, sharing, along_ + p * sharing);
      }
      tile_.score(rows, query_, dy_, size, count);
      for (int64_t row = 0; row < rows; ++row) {
        const int64_t key = begin + row;
        const int64_t past = shape_.window == 0 ? positions : std::min(positions, key + shape_.window - position);
        kernels_.softmaxBlockBackward(tile_.scores(row), tile_.gradients(row),
                                      std::max<int64_t>(0, key - position) * sharing, past * sharing, count,
                                      shape_.scoring, logSumExp_, along_, 1);
      }
      tile_.addGradients(rows, query_, size, count, dKey_);
      tile_.addScores(rows, dy_, size, count, dValue_);
    }
    for (int64_t row = 0; row < rows; ++row) {
      std::copy_n(dKey_ + row * size, size, head.dKey + (begin + row) * own.stride);
      std::copy_n(dValue_ + row * size, size, head.dValue + (begin + row) * own.stride);
    }
  }

 private:
  const Kernels& kernels_;
  const Shape& shape_;
  BackwardTile tile_;
  float *query_, *dy_, *logSumExp_, *along_, *dKey_, *dValue_;
};

int64_t multiplyAdds(const AttentionShape& s, int64_t sequences, int64_t queries, int64_t keys) {
  return sequences * s.heads * queries * (s.window == 0 ? keys : std::min(keys, s.window)) * s.headSize;
}

template <class Tile>
int64_t scratchOf(const State& s, const Shape& shape) {
  Arena arena;
  const Tile tile(s.kernels(), shape, arena);
  return arena.taken();
}

// Calls body(tile, sequence, head, begin, end) for the positions [begin, end) of each sequence and each head of keys,
// `step` of them at a time from the sequence's start on.
template <class Tile, class F>
void eachTile(State& s, const Shape& shape, const AttentionShape& attention, int64_t sequences, int64_t length,
              const int32_t* starts, int64_t step, const F& body) {
  const int64_t tiles = (length + step - 1) / step;
  s.prepareScratch(scratchOf<Tile>(s, shape));
  s.forEach(sequences * attention.keyValueHeads * tiles, multiplyAdds(attention, sequences, length, length),
            kWorkPerThread, [&](int64_t unit) {
              const int64_t sequence = unit / tiles / attention.keyValueHeads;
              const int64_t begin = starts[sequence] + unit % tiles * step;
              if (begin >= length) return;
              const State::Scratch scratch(s);
              Arena arena(scratch.data());
              Tile tile(s.kernels(), shape, arena);
              body(tile, sequence, unit / tiles % attention.keyValueHeads, begin, std::min(length, begin + step));
            });
}

}  // namespace

Status attention(void* state, const AttentionRequest& r) {
  State& s = *static_cast<State*>(state);
  const AttentionShape& a = r.shape;
  const Shape shape(a);
  const int64_t queryWidth = a.heads * a.headSize, keyWidth = a.keyValueHeads * a.headSize;
  for (int64_t i = 0; i < r.sequences; ++i) {
    std::fill_n(r.y + i * r.length * queryWidth, r.starts[i] * queryWidth, 0.0f);
    std::fill_n(r.logSumExp + i * r.length * a.heads, r.starts[i] * a.heads, 0.0f);
  }
  return guarded("attention", [&] {
    eachTile<ForwardTile>(s, shape, a, r.sequences, r.length, r.starts, shape.positions,
                          [&](ForwardTile& tile, int64_t sequence, int64_t head, int64_t begin, int64_t end) {
                            const int64_t at = sequence * r.length * keyWidth + head * a.headSize;
                            const KeysAndValues keys{r.key + at, r.value + at, keyWidth};
                            const int64_t row = sequence * r.length + begin,
                                          query = row * queryWidth + head * shape.sharing * a.headSize;
                            tile.run(r.starts[sequence], begin, end, r.query + query, r.y + query, queryWidth,
                                     r.logSumExp + row * a.heads + head * shape.sharing, a.heads,
                                     [&](int64_t position, int64_t) { return keys.from(position); });
                          });
  });
}

Status decodeAttention(void* state, const DecodeAttentionRequest& r) {
  State& s = *static_cast<State*>(state);
  const AttentionShape& a = r.shape;
  const Shape shape(a);
  return guarded("attention", [&] {
    const int64_t longest = *std::max_element(r.lengths, r.lengths + r.rows) + 1;
    s.prepareScratch(scratchOf<DecodeTile>(s, shape));
    s.forEach(r.rows * a.keyValueHeads, multiplyAdds(a, r.rows, 1, longest), kWorkPerThread / 8, [&](int64_t unit) {
      const int64_t position = r.lengths[unit / a.keyValueHeads], query = unit * shape.sharing * a.headSize;
      if (position < 0) {
        std::fill_n(r.y + query, shape.sharing * a.headSize, 0.0f);
        return;
      }
      const State::Scratch scratch(s);
      Arena arena(scratch.data());
      DecodeTile tile(s.kernels(), shape, arena);
      tile.run(r, unit, position, r.query + query, r.y + query);
    });
  });
}

Status attentionBackward(void* state, const AttentionBackwardRequest& r) {
  State& s = *static_cast<State*>(state);
  const AttentionShape& a = r.shape;
  const Shape shape(a);
  const int64_t queryWidth = a.heads * a.headSize, keyWidth = a.keyValueHeads * a.headSize;
  for (int64_t i = 0; i < r.sequences; ++i) {
    std::fill_n(r.dQuery + i * r.length * queryWidth, r.starts[i] * queryWidth, 0.0f);
    for (float* d : {r.dKey, r.dValue}) std::fill_n(d + i * r.length * keyWidth, r.starts[i] * keyWidth, 0.0f);
  }
  return guarded("the gradient of attention", [&] {
    std::vector<float> along(size_t(r.sequences * r.length * a.heads));
    s.split(int64_t(along.size()), kValuesPerThread / a.headSize + 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        along[size_t(i)] = s.kernels().dotRow(r.dy + i * a.headSize, r.mixed + i * a.headSize, a.headSize);
      }
    });
    const auto headOf = [&](int64_t sequence, int64_t head) {
      const int64_t query = sequence * r.length * queryWidth + head * shape.sharing * a.headSize;
      const int64_t keys = sequence * r.length * keyWidth + head * a.headSize;
      const int64_t statistics = sequence * r.length * a.heads + head * shape.sharing;
      return BackwardHead{r.starts[sequence],
                          r.query + query,
                          r.dy + query,
                          queryWidth,
                          {r.key + keys, r.value + keys, keyWidth},
                          r.logSumExp + statistics,
                          along.data() + statistics,
                          a.heads,
                          r.dQuery + query,
                          r.dKey + keys,
                          r.dValue + keys};
    };
    eachTile<QueryGradients>(s, shape, a, r.sequences, r.length, r.starts, shape.positions,
                             [&](QueryGradients& tile, int64_t sequence, int64_t head, int64_t begin, int64_t end) {
                               tile.run(headOf(sequence, head), begin, end);
                             });
    eachTile<KeyGradients>(s, shape, a, r.sequences, r.length, r.starts, kBlockKeys,
                           [&](KeyGradients& tile, int64_t sequence, int64_t head, int64_t begin, int64_t end) {
                             tile.run(headOf(sequence, head), begin, end, r.length);
                           });
  });
}

}  // namespace groupgrad::engine::cpu
