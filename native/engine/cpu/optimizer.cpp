// The optimiser's update, and the norm that gradients are clipped by.
#include "state.hpp"

namespace groupgrad::engine::cpu {

namespace {

// Number of values summed at a time: the order of a sum depends on it, and not on threads.
constexpr int64_t kPiece = 65536;

}  // namespace

Status adamW(void* state, const AdamWRequest& r) {
  State& s = *static_cast<State*>(state);
  s.split(r.size, kValuesPerThread / 4, [&](int64_t begin, int64_t end) { s.kernels().adamW(r, begin, end); });
  return {};
}

Status sumOfSquares(void* state, const SumOfSquaresRequest& r) {
  State& s = *static_cast<State*>(state);
  return guarded("a norm", [&] {
    std::vector<std::span<const float>> pieces;
    for (std::span<const float> x : r.x) {
      for (; !x.empty(); x = x.subspan(std::min(size_t(kPiece), x.size()))) {
        pieces.push_back(x.first(std::min(size_t(kPiece), x.size())));
      }
    }
    std::vector<double> sums(pieces.size());
    s.forEach(int64_t(pieces.size()), int64_t(pieces.size()) * kPiece, 4 * kValuesPerThread, [&](int64_t i) {
      sums[size_t(i)] = s.kernels().sumOfSquares(pieces[size_t(i)].data(), int64_t(pieces[size_t(i)].size()));
    });
    *r.y = 0;
    for (const double sum : sums) *r.y += sum;
  });
}

}  // namespace groupgrad::engine::cpu
