// Drawing tokens from rows of logits. Each step has the arithmetic of what other backends compose it of
// (src/rollout/choose.ts, cut.ts), so that tokens do not depend on the way: float32 probabilities, float64 sums, in the
// same order.
#include <atomic>
#include <utility>

#include "../../cpu/kernels.hpp"
#include "state.hpp"

namespace groupgrad::engine::cpu {

namespace {

struct Draw {
  int64_t index;
  double rest;
};

// The index in whose share of n values, given one after the other, `point` falls, and how far into that share.
template <class Next>
Draw draw(int64_t n, double point, const Next& next) {
  double rest = point, lastValue = 0;
  int64_t last = 0;
  for (int64_t i = 0; i < n; ++i) {
    const double value = double(next(i));
    if (rest < value) return {i, rest};
    rest -= value;
    if (value > 0) {
      last = i;
      lastValue = value;
    }
  }
  // Rounding can leave a sliver behind the last value with a share: it counts as the last's end.
  return {last, lastValue};
}

// From all probabilities, of which those of ids from `allowed` on are 0.
int64_t drawFromAll(const Kernels& kernels, const SampleRequest& r, const float* p, double uniform) {
  const double share = r.allowed < r.vocab ? uniform * double(float(sumInPieces(kernels, p, r.vocab))) : uniform;
  const auto from = [](const float* x) { return [x](int64_t i) { return x[i]; }; };
  if (r.block == r.vocab) return draw(r.vocab, share, from(p)).index;
  const auto total = [&](int64_t i) { return float(sumInPieces(kernels, p + i * r.block, r.block)); };
  const Draw block = draw(r.vocab / r.block, share, total);
  const int64_t begin = block.index * r.block;
  return begin + draw(r.block, block.rest, from(p + begin)).index;
}

// Sorts by falling probability, then by ascending id.
uint64_t keyOf(float probability, int64_t id) {
  return (uint64_t(~__builtin_bit_cast(uint32_t, probability)) << 32) | uint64_t(id);
}
int32_t idOf(uint64_t key) { return int32_t(key & 0xffffffff); }

// Keys, in no order, among which are those of the `count` most likely ids and those of the most likely ids of a share:
// of all that are at least as likely as some power of two. Returns their number.
int64_t mostLikely(const float* p, int64_t allowed, int64_t count, double share, uint64_t* keys) {
  const auto exponentOf = [](float x) { return __builtin_bit_cast(uint32_t, x) >> 23; };
  int64_t counts[256] = {};
  double sums[256] = {}, total = 0;
  for (int64_t id = 0; id < allowed; ++id) {
    if (!(p[id] > 0)) continue;
    ++counts[exponentOf(p[id])];
    sums[exponentOf(p[id])] += double(p[id]);
    total += double(p[id]);
  }
  // The sums run in another order than those of the caller: all of a share of nearly 1 is looked at.
  const double enough = share < 1 - 1e-9 ? share * total * (1 + 1e-9) : double(kInfinity);
  uint32_t least = 256;
  int64_t found = 0;
  for (double sum = 0; least > 0 && found < count && sum < enough;) {
    --least;
    found += counts[least];
    sum += sums[least];
  }
  int64_t next = 0;
  for (int64_t id = 0; id < allowed; ++id) {
    if (p[id] > 0 && exponentOf(p[id]) >= least) keys[next++] = keyOf(p[id], id);
  }
  return next;
}

// From this many keys on sortByProbability is worth its counting: several times as fast as comparing.
constexpr int64_t kManyKeys = 2048;

// Sorts keys whose ids ascend, by three digits of their probability from the lowest on, each in a stable pass. The
// result is in `keys`; `other` is scratch of the same size.
void sortByProbability(uint64_t* keys, uint64_t* other, int64_t n) {
  constexpr int kDigit = 11, kValues = 1 << kDigit, kDigits = 3;
  int64_t starts[kDigits][kValues] = {};
  const auto digitOf = [](uint64_t key, int digit) { return (key >> (32 + digit * kDigit)) & (kValues - 1); };
  for (int64_t i = 0; i < n; ++i) {
    for (int digit = 0; digit < kDigits; ++digit) ++starts[digit][digitOf(keys[i], digit)];
  }
  uint64_t *from = keys, *to = other;
  for (int digit = 0; digit < kDigits; ++digit, std::swap(from, to)) {
    int64_t next = 0;
    for (int64_t& start : starts[digit]) next += std::exchange(start, next);
    for (int64_t i = 0; i < n; ++i) to[starts[digit][digitOf(from[i], digit)]++] = from[i];
  }
  std::copy(from, from + n, keys);
}

// The ids below `allowed` that a cut leaves, ascending. `keys`: scratch for twice as many.
void keep(const SampleRequest& r, const float* p, uint64_t* keys, std::vector<int32_t>& kept) {
  const Cut& cut = r.cut;
  const int64_t most = cut.topK == 0 ? r.allowed : cut.topK;
  const int64_t found = mostLikely(p, r.allowed, most, cut.topK == 0 ? cut.topP : 1, keys);
  int64_t count = std::min(found, most);
  if (count == 0) return;
  if (count < found) std::nth_element(keys, keys + count, keys + found);
  if (cut.topP < 1) {
    if (cut.topK == 0 && count >= kManyKeys) {
      sortByProbability(keys, keys + r.allowed, count);
    } else {
      std::sort(keys, keys + count);
    }
    double sum = 0;
    if (cut.topK == 0) {
      for (int64_t id = 0; id < r.allowed; ++id) sum += double(p[id]);
    } else {
      for (int64_t i = 0; i < count; ++i) sum += double(p[idOf(keys[i])]);
    }
    double share = cut.topP * sum;
    const int64_t limit = count;
    for (count = 0; count < limit && (count == 0 || share > 0); ++count) share -= double(p[idOf(keys[count])]);
  }
  const auto [first, last] = std::minmax_element(keys, keys + count);
  const double least = cut.minP * double(p[idOf(*first)]);
  kept.reserve(size_t(count));
  for (int64_t id = 0; id < r.allowed; ++id) {
    if (p[id] > 0 && keyOf(p[id], id) <= *last && double(p[id]) >= least) kept.push_back(int32_t(id));
  }
}

float logProbOf(const SampleRequest& r, const float* logits, int32_t token) {
  LogitsRequest request{};
  request.logits = logits;
  request.vocab = request.rowStride = r.vocab;
  request.dtype = Dtype::float32;
  request.tokens = &token;
  request.temperature = r.temperature;
  return float(groupgrad::cpu::bestKernels().forwardRow(groupgrad::cpu::RowContext(request), 0).logProb);
}

// `p`: scratch for r.vocab values.
void sampleRow(const Kernels& kernels, const SampleRequest& r, int64_t row, float* p, uint64_t* keys) {
  const float* logits = r.logits + row * r.vocab;
  r.tokens[row] = -1;
  r.logProbs[row] = 0;
  if (!r.wanted[row]) return;
  const float temperature = float(r.temperature);
  kernels.binary(Binary::realDiv, logits, 1, &temperature, 0, p, r.vocab);
  kernels.softmaxRow(false, p, p, r.vocab);
  // A logit that is not finite makes all of them NaN.
  if (p[0] != p[0]) return;
  int64_t token;
  if (r.cuts) {
    std::vector<int32_t>& kept = r.kept[size_t(row)];
    keep(r, p, keys, kept);
    if (kept.empty()) return;
    double total = 0;
    for (const int32_t id : kept) total += double(p[id]);
    const Draw drawn =
        draw(int64_t(kept.size()), r.uniforms[row] * total, [&](int64_t i) { return p[kept[size_t(i)]]; });
    token = kept[size_t(drawn.index)];
    std::fill_n(p, r.vocab, r.masked);
    for (const int32_t id : kept) p[id] = logits[id];
    logits = p;
  } else if (r.uniforms) {
    std::fill(p + r.allowed, p + r.vocab, 0.0f);
    token = drawFromAll(kernels, r, p, r.uniforms[row]);
  } else {
    token = kernels.argRow(false, p, r.allowed);
  }
  r.logProbs[row] = logProbOf(r, logits, int32_t(token));
  r.tokens[row] = int32_t(token);
}

}  // namespace

Status sample(void* state, const SampleRequest& r) {
  State& s = *static_cast<State*>(state);
  return guarded("drawing tokens", [&] {
    const int64_t probabilities = (r.vocab * int64_t(sizeof(float)) + 63) / 64 * 64;
    s.prepareScratch(probabilities + (r.cuts ? 2 * r.allowed * int64_t(sizeof(uint64_t)) : 0));
    std::atomic<bool> failed = false;
    s.forEach(r.rows, r.rows * r.vocab, kValuesPerThread / 4, [&](int64_t row) {
      const State::Scratch scratch(s);
      try {
        sampleRow(s.kernels(), r, row, reinterpret_cast<float*>(scratch.data()),
                  reinterpret_cast<uint64_t*>(scratch.data() + probabilities));
      } catch (const std::bad_alloc&) {
        failed = true;
      }
    });
    if (failed) throw std::bad_alloc();
  });
}

}  // namespace groupgrad::engine::cpu
