// The primitives of a transformer besides attention: RMSNorm, rotary position embedding, gated unit.
#include "state.hpp"

namespace groupgrad::engine::cpu {

namespace {

// Minimum rows per unit of work that make waking a thread worthwhile.
int64_t rowsPerThread(int64_t width) {
  return std::max<int64_t>(1, kValuesPerThread / 2 / std::max<int64_t>(1, width));
}

}  // namespace

Status rmsNorm(void* state, const RmsNormRequest& r) {
  State& s = *static_cast<State*>(state);
  s.split(r.rows, rowsPerThread(r.n), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      r.scale[row] = s.kernels().rmsNormRow(r.x + row * r.n, r.weight, r.y + row * r.n, r.n, r.epsilon, r.offset);
    }
  });
  return {};
}

Status rmsNormBackward(void* state, const RmsNormBackwardRequest& r) {
  State& s = *static_cast<State*>(state);
  // Each group of rows sums the weight's gradient separately, so the order of the sum does not depend on threads.
  constexpr int64_t kStretch = 128;
  const int64_t stretches = (r.rows + kStretch - 1) / kStretch;
  return guarded("the gradient of RMSNorm", [&] {
    std::vector<float> parts(size_t(r.dWeight ? stretches * r.n : 0));
    s.forEach(stretches, r.rows * r.n, kValuesPerThread / 2, [&](int64_t stretch) {
      float* part = r.dWeight ? parts.data() + stretch * r.n : nullptr;
      for (int64_t row = stretch * kStretch; row < std::min(r.rows, (stretch + 1) * kStretch); ++row) {
        const int64_t at = row * r.n;
        s.kernels().rmsNormBackwardRow(r.dy + at, r.x + at, r.weight, r.scale[row], r.offset, r.dx + at, part, r.n);
      }
    });
    if (!r.dWeight) return;
    std::fill_n(r.dWeight, r.n, 0.0f);
    if (stretches > 0) s.kernels().reduceColumns(Reduction::sum, parts.data(), stretches, r.n, r.dWeight, r.n);
  });
}

Status rotary(void* state, const RotaryRequest& r) {
  State& s = *static_cast<State*>(state);
  const int64_t width = r.heads * r.size;
  s.split(r.rows, rowsPerThread(width), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t table = row % r.positions * r.size;
      for (int64_t at = row * width; at < (row + 1) * width; at += r.size) {
        s.kernels().rotateHead(r.x + at, r.cos + table, r.sin + table, r.y + at, r.width, r.size, r.inverse);
      }
    }
  });
  return {};
}

Status gatedUnit(void* state, const GatedUnitRequest& r) {
  State& s = *static_cast<State*>(state);
  s.split(r.size, kValuesPerThread / 4, [&](int64_t begin, int64_t end) {
    s.kernels().gatedUnit(r.gelu, r.gate + begin, r.up + begin, r.y + begin, end - begin);
  });
  return {};
}

Status gatedUnitBackward(void* state, const GatedUnitBackwardRequest& r) {
  State& s = *static_cast<State*>(state);
  s.split(r.size, kValuesPerThread / 4, [&](int64_t begin, int64_t end) {
    s.kernels().gatedUnitBackward(r.gelu, r.dy + begin, r.gate + begin, r.up + begin, r.dGate + begin, r.dUp + begin,
                                  end - begin);
  });
  return {};
}

}  // namespace groupgrad::engine::cpu
