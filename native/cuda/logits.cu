// The loss from logits: the order in which rows are visited and the policy loss is computed. Also its backward
// half.
#include "../core/visits.hpp"
#include "launch.hpp"
#include "policy.hpp"
#include "rows.hpp"

namespace groupgrad::cuda {

namespace {

struct LogitsScratch {
  float* gradient;
  RowRecord* records;

  LogitsScratch(Cutter& cutter, const LogitsRequest& r) {
    const int64_t rows = r.policy.sequences * r.policy.length;
    gradient = cutter.take<float>(rows);
    records = cutter.take<RowRecord>(rows);
  }
};

// Returns the rows' counts and resets them for the next operation.
__global__ void takeCounts(Header* header, double* nonFinite) {
  *nonFinite = double(header->offending) + header->overflows;
  header->offending = 0;
  header->overflows = 0;
}

}  // namespace

std::size_t logitsWorkspace(const LogitsRequest& r) {
  Cutter cutter(nullptr);
  PolicyScratch policy(cutter, r.policy);
  LogitsScratch logits(cutter, r);
  return cutter.used();
}

cudaError_t logitsLoss(const DeviceTraits& traits, const Stream& s, const LogitsRequest& request,
                       const DeviceRewards* rewards, LossMetrics* metrics, AdvantageMetrics* advantageMetrics) {
  LogitsRequest r = request;
  Cutter cutter(s.workspace);
  const PolicyScratch policyScratch(cutter, r.policy);
  const LogitsScratch scratch(cutter, r);

  if (rewards) {
    const cudaError_t error = advantages(s, *rewards, advantageMetrics);
    if (error != cudaSuccess) return error;
    r.policy.advantages = rewards->request.advantages;
    r.policy.advantagesPerToken = false;
  }

  RowsLaunch rows{r};
  rows.header = policyScratch.header;
  rows.batch = policyScratch.batch;
  rows.sequences = policyScratch.sequences;
  rows.records = scratch.records;
  rows.gradient = scratch.gradient;
  rows.skipInactive = skipsInactive(r);
  rows.quantile = r.policy.config.topQuantile < 1;

  PolicyLaunch policy{r.policy, policyScratch};
  policy.quantile = rows.quantile;
  policy.skipInactive = rows.skipInactive;
  policy.request.gradLogProbs = nullptr;
  policy.request.lossScale = 1;  // the rows apply it
  policy.metrics = metrics;

  if (r.gradLogits && isRowLocal(r)) {
    policy.purpose = PolicyPurpose::sequences;
    rows.overflows = &policyScratch.header->overflows;
    cudaError_t error = launchPolicy(traits, s.stream, policy);
    if (error == cudaSuccess) error = launchRows(traits, s.stream, RowVisit::both, rows);
    if (error != cudaSuccess) return error;
    policy.purpose = PolicyPurpose::loss;
    policy.logProbs = r.logProbs;
    policy.entropies = r.entropies;
    policy.gradient = scratch.gradient;
    policy.hasStates = true;
    return launchPolicy(traits, s.stream, policy);
  }

  cudaError_t error = launchRows(traits, s.stream, RowVisit::forward, rows);
  if (error == cudaSuccess && (rows.quantile || r.policy.config.entropyCoefficient != 0)) {
    error = settleEntropies(s.stream, r.policy, r.entropies, policyScratch.batch);
  }
  if (error != cudaSuccess) return error;
  policy.logProbs = r.logProbs;
  policy.entropies = r.entropies;
  if (r.gradLogits) policy.request.gradLogProbs = scratch.gradient;
  rows.overflows = &metrics->nonFinite;  // the policy loss has written it by then
  error = launchPolicy(traits, s.stream, policy);
  if (error != cudaSuccess || !r.gradLogits) return error;
  return launchRows(traits, s.stream, RowVisit::backward, rows);
}

std::size_t logitsBackwardWorkspace() {
  Cutter cutter(nullptr);
  cutter.take<Header>(1);
  return cutter.used();
}

cudaError_t logitsBackward(const DeviceTraits& traits, const Stream& s, const LogitsBackwardRequest& request,
                           double* nonFinite) {
  Cutter cutter(s.workspace);
  RowsLaunch rows{request.logits};
  rows.header = cutter.take<Header>(1);
  rows.overflows = &rows.header->overflows;
  rows.gradLogProbs = request.gradLogProbs;
  rows.gradEntropies = request.gradEntropies;
  const cudaError_t error = launchRows(traits, s.stream, RowVisit::given, rows);
  if (error != cudaSuccess) return error;
  return launch(takeCounts, {}, s.stream, rows.header, nonFinite);
}

}  // namespace groupgrad::cuda
