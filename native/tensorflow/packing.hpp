// A call's settings and its report as int32 tensors in host memory: TensorFlow.js has no float64 and no structs, and
// what changes from step to step must not be an attribute, of which TensorFlow keeps one kernel for each value. Plain
// copies of native/core's structs: both ends are of the same version of the package, often of the same binary.
#pragma once

#include <cstdint>
#include <vector>

#include "../core/config.hpp"

namespace groupgrad::tensorflow {

// Everything of a call but its tensors. Pointers are null, but for `advantage.rewards` and `advantage.offsets` of a
// call that starts from rewards: they point into `rewards` and `offsets`.
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
// False where the values are not what pack() makes.
bool unpack(const int32_t* values, int64_t count, Call&);
bool unpack(const int32_t* values, int64_t count, Report&);

}  // namespace groupgrad::tensorflow
