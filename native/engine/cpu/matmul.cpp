// Matrix products: how one is split for threads and caches. The inner loops (matmul.inl) compute each element's sum
// in an order that depends only on k, so that no split changes a bit.
//
// B is packed in strips of columns, A block by block (kBlockK wide) in panels of rows by the thread that multiplies
// them.
#include "state.hpp"

namespace groupgrad::engine {

class PackedMatrix {
 public:
  int64_t k, n;
  bool bfloat16;
  int64_t columns;  // of a strip: it differs between instruction sets
  cpu::Buffer strips;
};

}  // namespace groupgrad::engine

namespace groupgrad::engine::cpu {

namespace {

// Maximum rows of A that one thread packs and keeps in its cache.
constexpr int64_t kRowsPerBlock = 128;
// A right factor that is packed for a single product is packed in pieces of at most this many bytes.
constexpr int64_t kBytesPerPiece = int64_t(8) << 20;
// A batch's product with a right factor of at most this size is computed by one thread.
constexpr int64_t kBytesPerThread = int64_t(1) << 20;
// Minimum number of multiply-adds per thread.
constexpr int64_t kWorkPerThread = int64_t(1) << 19;

struct Format {
  bool bfloat16;
  PackStrip pack;

  Format(const Kernels& kernels, bool narrow)
      : bfloat16(narrow), pack(narrow ? kernels.packBfloat16 : kernels.packFloat32) {}
  // Of rows [0, k) of a strip; where a block of k begins too.
  int64_t bytes(int64_t k, int64_t columns) const {
    return (bfloat16 ? (k + kStepBfloat16 - 1) / kStepBfloat16 * kStepBfloat16 / 2 : k) * columns * 4;
  }
};

class Product {
 public:
  Product(State& state, const MatMulRequest& request)
      : s_(state),
        r_(request),
        format_(state.kernels(), request.precision == Precision::bfloat16 || isNarrow(request)),
        kernel_(request.precision == Precision::bfloat16 ? *state.set.bfloat16
                : format_.bfloat16                       ? state.kernels().mixed
                                                         : state.kernels().float32),
        rowsPerBlock_(kRowsPerBlock / kernel_.rows * kernel_.rows),
        strips_((request.right.n + kernel_.columns - 1) / kernel_.columns),
        stripBytes_(format_.bytes(request.right.k, kernel_.columns)) {}

  bool fitsPacked() const {
    const PackedMatrix* p = r_.packed;
    return !p || (p->k == r_.right.k && p->n == r_.right.n && p->bfloat16 == format_.bfloat16 &&
                  p->columns == kernel_.columns);
  }

  void run() const {
    // A kernel may read the rows of a whole tile.
    const int64_t panel = (std::min(r_.m, rowsPerBlock_) + kernel_.rows) * kPanelStride;
    const int64_t whole = strips_ * stripBytes_;
    if (r_.packed) {
      s_.prepareScratch(panel);
      for (int64_t i = 0; i < r_.batch; ++i) multiplyStrips(i, r_.packed->strips.data(), 0, strips_);
    } else if (r_.batch >= s_.threads() && r_.batch > 1 && whole <= kBytesPerThread) {
      s_.prepareScratch(panel + whole);
      s_.forEach(r_.batch, r_.batch * workOf(r_.m, strips_), kWorkPerThread, [&](int64_t i) {
        const State::Scratch scratch(s_);
        std::byte* strips = scratch.data() + panel;
        packStrips(i, strips, 0, strips_);
        for (int64_t row = 0; row < r_.m; row += rowsPerBlock_) {
          multiply(i, row, std::min(r_.m, row + rowsPerBlock_), strips, 0, 0, strips_, scratch.data());
        }
      });
    } else {
      s_.prepareScratch(panel);
      const int64_t piece = std::clamp<int64_t>(kBytesPerPiece / std::max<int64_t>(1, stripBytes_), 1, strips_);
      std::byte* strips = s_.strips.reserve(piece * stripBytes_);
      for (int64_t i = 0; i < r_.batch; ++i) {
        for (int64_t begin = 0; begin < strips_; begin += piece) {
          const int64_t count = std::min(piece, strips_ - begin);
          s_.forEach(count, count * kernel_.columns * r_.right.k, kValuesPerThread, [&](int64_t strip) {
            packStrips(i, strips + strip * stripBytes_, begin + strip, begin + strip + 1);
          });
          multiplyStrips(i, strips, begin, begin + count);
        }
      }
    }
  }

 private:
  static bool isNarrow(const MatMulRequest& r) { return r.packed ? r.packed->bfloat16 : r.right.bfloat16 != nullptr; }

  int64_t workOf(int64_t rows, int64_t strips) const { return rows * strips * kernel_.columns * r_.right.k; }

  void packStrips(int64_t i, std::byte* to, int64_t begin, int64_t end) const {
    Matrix b = r_.right;
    const int64_t at = int64_t(r_.batchB[size_t(i)]);
    if (b.float32) b.float32 += at;
    if (b.bfloat16) b.bfloat16 += at;
    for (int64_t strip = begin; strip < end; ++strip, to += stripBytes_) {
      const int64_t column = strip * kernel_.columns;
      format_.pack(b, column, std::min<int64_t>(kernel_.columns, b.n - column), kernel_.columns, to);
    }
  }

  // Product i of the batch by strips [begin, end), stored at `strips`, on all threads.
  void multiplyStrips(int64_t i, const std::byte* strips, int64_t begin, int64_t end) const {
    const int64_t blocks = (r_.m + rowsPerBlock_ - 1) / rowsPerBlock_;
    const int64_t rows = (r_.m + blocks - 1) / blocks;
    const int64_t count = end - begin;
    const int64_t splits = std::clamp<int64_t>((4 * s_.threads() + blocks - 1) / blocks, 1, count);
    const int64_t perSplit = (count + splits - 1) / splits;
    s_.forEach(blocks * splits, workOf(r_.m, count), kWorkPerThread, [&](int64_t unit) {
      const int64_t row = unit / splits * rows, first = begin + unit % splits * perSplit;
      const int64_t last = std::min(end, first + perSplit);
      if (first >= last || row >= r_.m) return;
      const State::Scratch scratch(s_);
      multiply(i, row, std::min(r_.m, row + rows), strips, begin, first, last, scratch.data());
    });
  }

  // Rows [row, rowEnd) by strips [first, last) on this thread. `strips` begins with strip `base`.
  void multiply(int64_t i, int64_t row, int64_t rowEnd, const std::byte* strips, int64_t base, int64_t first,
                int64_t last, std::byte* panel) const {
    const int64_t rows = rowEnd - row, k = r_.right.k, n = r_.right.n;
    const float* a = r_.a + int64_t(r_.batchA[size_t(i)]) + row * r_.strideM;
    float* c = r_.c + (i * r_.m + row) * n;
    // Tiles of equal height rather than full ones and a remainder.
    const int64_t tiles = (rows + kernel_.rows - 1) / kernel_.rows;
    if (kernel_.enter) kernel_.enter();
    for (int64_t begin = 0; begin < k; begin += kBlockK) {
      const int64_t block = std::min(kBlockK, k - begin);
      kernel_.packRows(a + begin * r_.strideK, r_.strideM, r_.strideK, rows, block, panel);
      for (int64_t strip = first; strip < last; ++strip) {
        const std::byte* b = strips + (strip - base) * stripBytes_ + format_.bytes(begin, kernel_.columns);
        const int64_t column = strip * kernel_.columns, width = std::min<int64_t>(kernel_.columns, n - column);
        for (int64_t tile = 0; tile < tiles; ++tile) {
          const int64_t top = tile * rows / tiles, bottom = (tile + 1) * rows / tiles;
          kernel_.multiply(int(bottom - top), panel + top * kPanelStride, b, block, c + top * n + column, n, width,
                           begin > 0 || r_.accumulates);
        }
      }
    }
    if (kernel_.leave) kernel_.leave();
    finish(c, rows, first * kernel_.columns, std::min(n, last * kernel_.columns));
  }

  void finish(float* c, int64_t rows, int64_t begin, int64_t end) const {
    const int64_t width = end - begin;
    for (int64_t row = 0; row < rows; ++row) {
      float* y = c + row * r_.right.n + begin;
      if (r_.right.k == 0 && !r_.accumulates) std::fill_n(y, width, 0.0f);
      if (r_.bias) s_.kernels().binary(Binary::add, y, 1, r_.bias + begin, 1, y, width);
      if (r_.activates) s_.kernels().unary(r_.activation, y, y, width, r_.alpha);
    }
  }

  State& s_;
  const MatMulRequest& r_;
  const Format format_;
  const ProductKernel& kernel_;
  const int64_t rowsPerBlock_, strips_, stripBytes_;
};

}  // namespace

Status matMul(void* state, const MatMulRequest& request) {
  if (request.batch == 0 || request.m == 0 || request.right.n == 0) return {};
  const Product product(*static_cast<State*>(state), request);
  if (!product.fitsPacked()) {
    return Status::make(StatusCode::failed, "%s", "a packed matrix of another size, type or instruction set");
  }
  return guarded("a matrix product", [&] { product.run(); });
}

Status pack(void* state, Precision precision, const Matrix& matrix, PackedMatrix*& packed) {
  State& s = *static_cast<State*>(state);
  packed = nullptr;
  return guarded("a packed matrix", [&] {
    const Format format(s.kernels(), precision == Precision::bfloat16 || matrix.bfloat16);
    auto result = std::make_unique<PackedMatrix>();
    result->k = matrix.k;
    result->n = matrix.n;
    result->bfloat16 = format.bfloat16;
    const int64_t columns = result->columns = s.kernels().float32.columns;
    const int64_t strips = (matrix.n + columns - 1) / columns, bytes = format.bytes(matrix.k, columns);
    std::byte* to = result->strips.reserve(strips * bytes);
    s.forEach(strips, matrix.k * matrix.n, kValuesPerThread, [&](int64_t strip) {
      format.pack(matrix, strip * columns, std::min(columns, matrix.n - strip * columns), columns, to + strip * bytes);
    });
    packed = result.release();
  });
}

int64_t packedBytes(const PackedMatrix& packed) { return packed.strips.size(); }
void freePacked(PackedMatrix* packed) { delete packed; }

}  // namespace groupgrad::engine::cpu
