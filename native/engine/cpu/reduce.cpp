// Reductions, argmax and argmin, softmax. How a sum is split depends only on its length, never on threads.
#include "state.hpp"

namespace groupgrad::engine::cpu {

namespace {

// Maximum number of a row's values that one thread reduces; longer rows are split.
constexpr int64_t kPiece = 65536;
constexpr int64_t kColumns = 256;

}  // namespace

double sumInPieces(const Kernels& kernels, const float* x, int64_t n) {
  double total = 0;
  for (int64_t i = 0; i < n; i += kPiece) total += kernels.sumRow(x + i, std::min(kPiece, n - i));
  return total;
}

Status reduce(void* state, const ReduceRequest& r) {
  State& s = *static_cast<State*>(state);
  const Kernels& kernels = s.kernels();
  const int64_t work = r.outer * r.n * r.inner;
  if (r.inner > 1) {
    const int64_t blocks = (r.inner + kColumns - 1) / kColumns;
    s.forEach(r.outer * blocks, work, kValuesPerThread, [&](int64_t unit) {
      const int64_t outer = unit / blocks, column = unit % blocks * kColumns;
      kernels.reduceColumns(r.op, r.x + outer * r.n * r.inner + column, r.n, r.inner, r.y + outer * r.inner + column,
                            std::min(kColumns, r.inner - column));
    });
    return {};
  }
  return guarded("a reduction", [&] {
    const bool sums = r.op == Reduction::sum || r.op == Reduction::mean;
    const bool smallest = r.op == Reduction::min;
    const int64_t pieces = (r.n + kPiece - 1) / kPiece;
    const double scale = r.op == Reduction::mean ? double(r.n) : 1;
    const auto piece = [&](int64_t row, int64_t i) {
      const float* x = r.x + row * r.n + i * kPiece;
      const int64_t n = std::min(kPiece, r.n - i * kPiece);
      return sums ? kernels.sumRow(x, n) : double(kernels.extremeRow(smallest, x, n));
    };
    if (pieces == 1) {
      const int64_t rows = std::max<int64_t>(1, kValuesPerThread / r.n);
      s.split(r.outer, rows, [&](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row) r.y[row] = float(piece(row, 0) / scale);
      });
      return;
    }
    std::vector<double> parts(size_t(r.outer * pieces));
    s.forEach(r.outer * pieces, work, kValuesPerThread,
              [&](int64_t unit) { parts[size_t(unit)] = piece(unit / pieces, unit % pieces); });
    for (int64_t row = 0; row < r.outer; ++row) {
      double total = parts[size_t(row * pieces)];
      for (int64_t i = 1; i < pieces; ++i) {
        const double v = parts[size_t(row * pieces + i)];
        if (sums) {
          total += v;
        } else if ((smallest ? v < total : v > total) || v != v) {
          total = v;
        }
      }
      r.y[row] = float(total / scale);
    }
  });
}

Status arg(void* state, const ArgRequest& r) {
  State& s = *static_cast<State*>(state);
  s.forEach(r.rows, r.rows * r.n, kValuesPerThread,
            [&](int64_t row) { r.y[row] = int32_t(s.kernels().argRow(r.smallest, r.x + row * r.n, r.n)); });
  return {};
}

Status softmax(void* state, const SoftmaxRequest& r) {
  State& s = *static_cast<State*>(state);
  const int64_t perUnit = std::max<int64_t>(1, kValuesPerThread / 4 / r.n);
  const int64_t units = (r.rows + perUnit - 1) / perUnit;
  s.forEach(units, r.rows * r.n, kValuesPerThread / 4, [&](int64_t unit) {
    for (int64_t row = unit * perUnit; row < std::min(r.rows, (unit + 1) * perUnit); ++row) {
      s.kernels().softmaxRow(r.log, r.x + row * r.n, r.y + row * r.n, r.n);
    }
  });
  return {};
}

}  // namespace groupgrad::engine::cpu
