// Matrix products: how one is split for threads and caches. The inner loops (matmul.inl) compute each element's sum
// in an order that depends only on k, so that no split changes a bit.
//
// B is packed in strips of columns, A block by block (kBlockK wide) in panels of rows by the thread that multiplies
// them, or once for all threads if it is small.
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
// A left factor that is packed for all threads takes at most this many bytes; the caller packs it.
constexpr int64_t kBytesPerPanel = int64_t(1) << 20;
// A right factor that is packed for a single product is packed in pieces of at most this many bytes.
constexpr int64_t kBytesPerPiece = int64_t(8) << 20;
// A piece should be at least this many strips wide.
constexpr int64_t kStripsPerPiece = 64;
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
        strips_((request.right.n + kernel_.columns - 1) / kernel_.columns) {}

  bool fitsPacked() const {
    const PackedMatrix* p = r_.packed;
    return !p || (p->k == r_.right.k && p->n == r_.right.n && p->bfloat16 == format_.bfloat16 &&
                  p->columns == kernel_.columns);
  }

  void run() const {
    // A kernel may read the rows of a whole tile.
    const int64_t panel = (std::min(r_.m, rowsPerBlock_) + kernel_.rows) * kPanelStride;
    const int64_t k = r_.right.k, wholeBytes = strips_ * stripBytes(k);
    if (r_.packed) {
      s_.prepareScratch(panel);
      for (int64_t i = 0; i < r_.batch; ++i) {
        multiplyStrips(i, {r_.packed->strips.data(), 0, strips_, 0, k});
      }
    } else if (r_.batch >= s_.threads() && r_.batch > 1 && wholeBytes <= kBytesPerThread) {
      s_.prepareScratch(panel + wholeBytes);
      s_.forEach(r_.batch, r_.batch * workOf(r_.m, strips_, k), kWorkPerThread, [&](int64_t i) {
        const State::Scratch scratch(s_);
        std::byte* to = scratch.data() + panel;
        for (int64_t strip = 0; strip < strips_; ++strip) packStrip(i, strip, 0, k, to + strip * stripBytes(k));
        for (int64_t row = 0; row < r_.m; row += rowsPerBlock_) {
          multiply(i, row, std::min(r_.m, row + rowsPerBlock_), {to, 0, strips_, 0, k}, 0, strips_, nullptr,
                   scratch.data());
        }
      });
    } else {
      s_.prepareScratch(panel);
      const int64_t height = pieceHeight();
      const int64_t width = std::clamp<int64_t>(kBytesPerPiece / std::max<int64_t>(1, stripBytes(height)), 1, strips_);
      std::byte* to = s_.strips.reserve(width * stripBytes(height));
      for (int64_t i = 0; i < r_.batch; ++i) {
        for (int64_t top = 0; top == 0 || top < k; top += height) {
          const int64_t bottom = std::min(k, top + height), bytes = stripBytes(bottom - top);
          for (int64_t begin = 0; begin < strips_; begin += width) {
            const int64_t count = std::min(width, strips_ - begin);
            s_.forEach(count, count * kernel_.columns * (bottom - top), kValuesPerThread,
                       [&](int64_t strip) { packStrip(i, begin + strip, top, bottom, to + strip * bytes); });
            multiplyStrips(i, {to, begin, begin + count, top, bottom});
          }
        }
      }
    }
  }

 private:
  // Rows [top, bottom) of strips [begin, end) of B, packed.
  struct Piece {
    const std::byte* data;
    int64_t begin, end, top, bottom;
  };

  static bool isNarrow(const MatMulRequest& r) { return r.packed ? r.packed->bfloat16 : r.right.bfloat16 != nullptr; }

  int64_t workOf(int64_t rows, int64_t strips, int64_t k) const { return rows * strips * kernel_.columns * k; }
  int64_t stripBytes(int64_t k) const { return format_.bytes(k, kernel_.columns); }

  // Rows of B that are packed at a time. A is packed again for every piece of the same rows, so a tall B is cut into
  // pieces of its full width, as long as they have a block of rows.
  int64_t pieceHeight() const {
    const int64_t k = r_.right.k;
    if (k == 0) return 1;  // one piece, of no rows
    if (std::min(strips_, kStripsPerPiece) * stripBytes(k) <= kBytesPerPiece) return k;
    const int64_t blocks = kBytesPerPiece / (std::min(strips_, kStripsPerPiece) * stripBytes(kBlockK));
    return std::max<int64_t>(1, blocks) * kBlockK;
  }

  void packStrip(int64_t i, int64_t strip, int64_t top, int64_t bottom, std::byte* to) const {
    Matrix b = r_.right;
    b.k = bottom - top;
    const int64_t at = int64_t(r_.batchB[size_t(i)]) + top * b.strideK;
    if (b.float32) b.float32 += at;
    if (b.bfloat16) b.bfloat16 += at;
    const int64_t column = strip * kernel_.columns;
    format_.pack(b, column, std::min<int64_t>(kernel_.columns, b.n - column), kernel_.columns, to);
  }

  // Product i of the batch by a piece of B, on all threads.
  void multiplyStrips(int64_t i, const Piece& piece) const {
    const int64_t blocks = (r_.m + rowsPerBlock_ - 1) / rowsPerBlock_;
    const int64_t rows = (r_.m + blocks - 1) / blocks;
    const int64_t count = piece.end - piece.begin;
    const int64_t splits = std::clamp<int64_t>((4 * s_.threads() + blocks - 1) / blocks, 1, count);
    const int64_t perSplit = (count + splits - 1) / splits;
    // In decoding each thread would pack the same few rows for every split, which takes as long as a good part of the
    // product with a narrow matrix.
    const std::byte* panels = blocks == 1 && splits > 1 ? packOnce(i, piece) : nullptr;
    s_.forEach(blocks * splits, workOf(r_.m, count, piece.bottom - piece.top), kWorkPerThread, [&](int64_t unit) {
      const int64_t row = unit / splits * rows, first = piece.begin + unit % splits * perSplit;
      const int64_t last = std::min(piece.end, first + perSplit);
      if (first >= last || row >= r_.m) return;
      const State::Scratch scratch(s_);
      multiply(i, row, std::min(r_.m, row + rows), piece, first, last, panels, scratch.data());
    });
  }

  int64_t panelBytes() const { return (r_.m + kernel_.rows) * kPanelStride; }

  // All rows of A for a piece, a panel for each block of k; null if they are too large.
  const std::byte* packOnce(int64_t i, const Piece& piece) const {
    const int64_t blocks = (piece.bottom - piece.top + kBlockK - 1) / kBlockK;
    if (blocks * panelBytes() > kBytesPerPanel) return nullptr;
    std::byte* panels = s_.panels.reserve(blocks * panelBytes());
    const float* a = r_.a + int64_t(r_.batchA[size_t(i)]);
    for (int64_t block = 0; block < blocks; ++block) {
      const int64_t k = piece.top + block * kBlockK;
      kernel_.packRows(a + k * r_.strideK, r_.strideM, r_.strideK, r_.m, std::min(kBlockK, piece.bottom - k),
                       panels + block * panelBytes());
    }
    return panels;
  }

  // Rows [row, rowEnd) by strips [first, last) of a piece on this thread. `panels`: from packOnce; without, A is packed
  // to `scratch`.
  void multiply(int64_t i, int64_t row, int64_t rowEnd, const Piece& piece, int64_t first, int64_t last,
                const std::byte* panels, std::byte* scratch) const {
    const int64_t rows = rowEnd - row, n = r_.right.n;
    const float* a = r_.a + int64_t(r_.batchA[size_t(i)]) + row * r_.strideM;
    float* c = r_.c + (i * r_.m + row) * n;
    // Tiles of equal height rather than full ones and a remainder.
    const int64_t tiles = (rows + kernel_.rows - 1) / kernel_.rows;
    const int64_t bytes = stripBytes(piece.bottom - piece.top);
    // Of one k of a strip.
    const int64_t rowBytes = stripBytes(kStepBfloat16) / kStepBfloat16;
    const auto stripAt = [&](int64_t strip, int64_t k) {
      return piece.data + (strip - piece.begin) * bytes + stripBytes(k - piece.top);
    };
    if (kernel_.enter) kernel_.enter();
    for (int64_t k = piece.top; k < piece.bottom; k += kBlockK) {
      const int64_t block = std::min(kBlockK, piece.bottom - k);
      if (!panels) kernel_.packRows(a + k * r_.strideK, r_.strideM, r_.strideK, rows, block, scratch);
      const std::byte* panel = panels ? panels + (k - piece.top) / kBlockK * panelBytes() : scratch;
      for (int64_t strip = first; strip < last; ++strip) {
        const std::byte* b = stripAt(strip, k);
        const int64_t column = strip * kernel_.columns, width = std::min<int64_t>(kernel_.columns, n - column);
        // Decoding reads every weight from memory once per step, which takes as long as multiplying it by 32 rows: the
        // tiles prefetch equal parts of the next strip.
        const std::byte* next = strip + 1 < last ? stripAt(strip + 1, k) : stripAt(first, k + block);
        for (int64_t tile = 0; tile < tiles; ++tile) {
          const int64_t top = tile * rows / tiles, bottom = (tile + 1) * rows / tiles;
          kernel_.multiply(int(bottom - top), panel + top * kPanelStride, b, block, c + top * n + column, n, width,
                           k > 0 || r_.accumulates, next + tile * block * rowBytes / tiles, rowBytes / tiles);
        }
      }
    }
    if (kernel_.leave) kernel_.leave();
    if (piece.bottom == r_.right.k) finish(c, rows, first * kernel_.columns, std::min(n, last * kernel_.columns));
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
  const int64_t rowsPerBlock_, strips_;
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
