// A call's settings and its report as int32 tensors in host memory: TensorFlow.js has no float64 and no structs,
// and values that change between steps must not be attributes, because TensorFlow keeps one kernel per attribute
// value. Plain copies of native/core's structs: both ends have the same version of the package, often the same
// binary.
#pragma once

#include <cstdint>
#include <vector>

#include "../core/config.hpp"

namespace groupgrad::tensorflow {

// Everything in a call but its tensors. Pointers are null, except `advantage.rewards` and `advantage.offsets` of a
// call that starts from rewards, which point into `rewards` and `offsets`.
struct Call {
  LogitsRequest logits;  // of a loss from log-probs its `policy` alone
  AdvantageRequest advantage;
  bool fused = false;    // starts from rewards
  bool inPlace = false;  // the gradient may take the place of the logits
  bool rows = false;     // log-probs and entropies are wanted in the report
  std::vector<double> rewards;
  std::vector<int32_t> offsets;
};

struct Report {
  LossMetrics loss;
  AdvantageMetrics advantage;
  std::vector<float> advantages, weights, groupMean, groupStd;  // of a call that starts from rewards
  std::vector<uint8_t> active;
  std::vector<float> logProbs, entropies;  // where `rows` were wanted
};

std::vector<int32_t> pack(const Call&);
std::vector<int32_t> pack(const Report&);
// False if the values are not the output of pack().
bool unpack(const int32_t* values, int64_t count, Call&);
bool unpack(const int32_t* values, int64_t count, Report&);

}  // namespace groupgrad::tensorflow
