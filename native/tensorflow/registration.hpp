// Registers the operations of kernels.hpp with the TensorFlow of this process.
#pragma once

#include <string>

namespace groupgrad::tensorflow {

struct Registration {
  std::string error;  // why there are none; it may pass, where TensorFlow is not loaded yet
  // The rest only without an error.
  std::string logitsLoss, policyLoss, advantages;  // names of the operations
  std::string tensorflow;                          // its version
  std::string devices;                             // "CPU", or "CPU and GPU"
};

// Registers once per process: other threads, and other copies of the same version of the package, find the
// registered operations. Thread-safe.
Registration registerOperations(const std::string& version);

}  // namespace groupgrad::tensorflow
