// The row kernels (K3): from rows of logits to log-probs, entropies and the gradient with respect to the logits.
#pragma once

#include "workspace.cuh"

namespace groupgrad::cuda {

enum class RowVisit : int32_t {
  both,      // one visit: the row's gradient depends only on the row and its sequence's state
  forward,   // log-prob, entropy and a record for the later visit
  backward,  // the gradient, from the record
  given,     // one visit: the gradient with respect to the row's log-prob and entropy is given
};

struct RowsLaunch {
  explicit RowsLaunch(const LogitsRequest& request);

  LogitsRequest request;
  Header* header = nullptr;
  const Batch* batch = nullptr;              // for `both` and `backward`
  const SequenceState* sequences = nullptr;  // for `both`
  RowRecord* records = nullptr;              // for `forward` and `backward`
  float* gradient = nullptr;                 // with respect to log-probs; `both` writes it
  const float* gradLogProbs = nullptr;       // for `given`
  const float* gradEntropies = nullptr;      // likewise; null: 0
  double* overflows = nullptr;               // values of the gradient that are beyond the range of their type
  bool skipInactive = false;                 // rows without an advantage are not read
  bool quantile = false;                     // batch->entropyThreshold drops tokens
  float inverseTemperature = 1;
  float gradientScale = 1;  // of what is written: the loss scale over the temperature
  float scale = 1;          // log2(e) / T
  int64_t sliceLogits = 0;  // of a block of a cluster
  int32_t chunkLogits = 0;  // of a slice
};

cudaError_t launchRows(const DeviceTraits&, cudaStream_t, RowVisit, const RowsLaunch&);

}  // namespace groupgrad::cuda
