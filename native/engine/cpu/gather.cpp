// Gathers rows by index, and sums rows by index.
#include "state.hpp"

namespace groupgrad::engine::cpu {

Status gather(void* state, const GatherRequest& r) {
  State& s = *static_cast<State*>(state);
  const int64_t bytes = r.inner * r.bytes, rows = r.batch * r.outer * r.indicesPerBatch;
  const auto* x = static_cast<const std::byte*>(r.x);
  auto* y = static_cast<std::byte*>(r.y);
  s.split(rows, std::max<int64_t>(1, kValuesPerThread / std::max<int64_t>(1, r.inner)),
          [&](int64_t begin, int64_t end) {
            for (int64_t row = begin; row < end; ++row) {
              const int64_t i = row % r.indicesPerBatch, block = row / r.indicesPerBatch, batch = block / r.outer;
              const int64_t from = block * r.n + r.indices[batch * r.indicesPerBatch + i];
              std::memcpy(y + row * bytes, x + from * bytes, size_t(bytes));
            }
          });
  return {};
}

Status scatterAdd(void* state, const ScatterAddRequest& r) {
  State& s = *static_cast<State*>(state);
  // Each unit owns a range of the output, so that additions to a row keep their order.
  const int64_t units = std::clamp<int64_t>(4 * s.threads(), 1, std::max<int64_t>(1, r.n));
  const int64_t range = (r.n + units - 1) / units;
  s.forEach(units, (r.rows + r.n) * r.inner, kValuesPerThread, [&](int64_t unit) {
    const int64_t begin = unit * range, end = std::min(r.n, begin + range);
    if (begin >= end) return;
    std::fill(r.y + begin * r.inner, r.y + end * r.inner, 0.0f);
    for (int64_t row = 0; row < r.rows; ++row) {
      const int64_t index = r.indices[row];
      if (index < begin || index >= end) continue;
      float* y = r.y + index * r.inner;
      s.kernels().binary(Binary::add, y, 1, r.x + row * r.inner, 1, y, r.inner);
    }
  });
  return {};
}

}  // namespace groupgrad::engine::cpu
