// The policy loss over token log-probs as one launch: K1 (if there are rewards) and K2.
#pragma once

#include "workspace.cuh"

namespace groupgrad::cuda {

enum class PolicyPurpose : int32_t {
  loss,       // loss, metrics, and the gradient if wanted
  sequences,  // the states of sequences alone, from what does not depend on log-probs
};

struct PolicyLaunch {
  PolicyLaunch(const PolicyRequest& request, const PolicyScratch& scratch) : request(request), scratch(scratch) {}

  PolicyRequest request;
  PolicyScratch scratch;
  PolicyPurpose purpose = PolicyPurpose::loss;
  const float* logProbs = nullptr;   // null: 0 everywhere
  const float* entropies = nullptr;  // null: no entropy term, no metric of entropy
  const float* gradient = nullptr;   // with respect to log-probs, where rows have taken it: to be counted
  bool quantile = false;             // scratch.batch->entropyThreshold drops tokens
  bool skipInactive = false;         // tokens without an advantage were not read: they are left out of ratios
  bool hasStates = false;            // scratch.sequences and scratch.batch hold what a launch for `sequences` wrote
  bool hasRewards = false;
  DeviceRewards rewards;  // if hasRewards
  LossMetrics* metrics = nullptr;
  AdvantageMetrics* advantageMetrics = nullptr;
};

cudaError_t launchPolicy(const DeviceTraits&, cudaStream_t, const PolicyLaunch&);

// Writes the entropy term's batch-wide values, the threshold and the denominator, from all rows' entropies.
cudaError_t settleEntropies(cudaStream_t, const PolicyRequest&, const float* entropies, Batch*);

// Whether a token's term, including its factor, needs a sum over its sequence.
bool needsSequenceSums(const PolicyRequest&);

}  // namespace groupgrad::cuda
