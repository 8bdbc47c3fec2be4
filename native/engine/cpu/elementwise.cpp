// Elementwise operations, distributed over threads.
#include "state.hpp"

namespace groupgrad::engine::cpu {

namespace {

int64_t bytesOf(Type type) { return type == Type::boolean ? 1 : type == Type::bfloat16 ? 2 : 4; }

}  // namespace

Status unary(void* state, const UnaryRequest& r) {
  State& s = *static_cast<State*>(state);
  s.split(r.size, kValuesPerThread,
          [&](int64_t begin, int64_t end) { s.kernels().unary(r.op, r.x + begin, r.y + begin, end - begin, r.alpha); });
  return {};
}

Status binary(void* state, const BinaryRequest& r) {
  State& s = *static_cast<State*>(state);
  const int last = r.rank - 1;
  const int64_t length = r.shape[last], rows = Rows<2>::number(r.rank, r.shape);
  const int64_t bytes = comparesValues(r.op) ? 1 : 4;
  s.split(rows * length, kValuesPerThread, [&](int64_t begin, int64_t end) {
    if (begin >= end) return;
    Rows<2> walk(r.rank, r.shape, {r.strideA, r.strideB});
    walk.seek(begin / length);
    for (int64_t at = begin; at < end; walk.next()) {
      const int64_t column = at % length, n = std::min(end - at, length - column);
      s.kernels().binary(r.op, r.a + walk.offsets[0] + column * r.strideA[last], r.strideA[last],
                         r.b + walk.offsets[1] + column * r.strideB[last], r.strideB[last],
                         static_cast<char*>(r.y) + at * bytes, n);
      at += n;
    }
  });
  return {};
}

Status select(void* state, const SelectRequest& r) {
  State& s = *static_cast<State*>(state);
  s.split(r.size, kValuesPerThread, [&](int64_t begin, int64_t end) {
    s.kernels().select(r.condition + begin, r.a + begin, r.b + begin, r.y + begin, end - begin);
  });
  return {};
}

Status cast(void* state, const CastRequest& r) {
  State& s = *static_cast<State*>(state);
  s.split(r.size, kValuesPerThread, [&](int64_t begin, int64_t end) {
    s.kernels().cast(r.from, r.to, static_cast<const char*>(r.x) + begin * bytesOf(r.from),
                     static_cast<char*>(r.y) + begin * bytesOf(r.to), end - begin);
  });
  return {};
}

Status addN(void* state, const AddNRequest& r) {
  State& s = *static_cast<State*>(state);
  // In pieces that stay in the cache while all inputs are added to them.
  constexpr int64_t kPiece = 4096;
  s.split(r.size, kValuesPerThread, [&](int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; at += kPiece) {
      const int64_t n = std::min(kPiece, end - at);
      std::memcpy(r.y + at, r.x[0] + at, size_t(n) * sizeof(float));
      for (const float* x : r.x.subspan(1)) s.kernels().binary(Binary::add, r.y + at, 1, x + at, 1, r.y + at, n);
    }
  });
  return {};
}

}  // namespace groupgrad::engine::cpu
