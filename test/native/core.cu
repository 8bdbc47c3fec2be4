// Compiled, not run: native/core must be acceptable to a CUDA compiler, on the host and on the device.

#include "../../native/core/advantage.hpp"
#include "../../native/core/aggregation.hpp"
#include "../../native/core/kl.hpp"
#include "../../native/core/surrogate.hpp"

using namespace groupgrad;

template <class Surrogate>
__device__ float valueAndSlopes(const Surrogate& surrogate, const TokenState& s) {
  const Term t = surrogate.term(s);
  const float sums = surrogate.contribution(s) + surrogate.slope(s) + float(surrogate.finish(1, 2));
  return t.loss + t.dLogRatio + t.dLogProb + t.dSequence + sums + surrogate.clippedLow(s) + surrogate.clippedHigh(s);
}

__global__ void tokens(PolicyRequest request, float* out) {
  const TokenState s{out[0], out[1], expOf(out[1]), out[2], out[3], out[4]};
  float sum = 0;
  withSurrogate(request.config, [&](const auto& surrogate) { sum = valueAndSlopes(surrogate, s); });
  const float d = out[0] - out[5];
  sum += klTerm<KlEstimator::k1>(d, 0).value + klTerm<KlEstimator::k2>(d, 0).value;
  sum += klTerm<KlEstimator::k3>(d, expOf(-d)).value;
  sum += float(aggregationFactor(request.config, denominators(request, 1, 1), 1));
  out[0] = sum;
}

__global__ void groups(AdvantageRequest r) {
  const GroupStatistics g = groupStatistics(r.rewards, r.offsets[1], r.ddof);
  const double a = groupAdvantage(r.rewards[0], g, 1, r.center, r.scale, r.epsilon);
  r.advantages[0] = float(a * hadwWeight(a, g.mean, r.anchor, r.hadwScale));
}
