// The fused losses and advantages as kernels of TensorFlow operations: inputs and outputs are TensorFlow's own tensors.
// The signatures, for registration.cpp, with the order of inputs and outputs that src/tfjs/operations.ts uses.
#pragma once

#include <vector>

#include "api.hpp"

namespace groupgrad::tensorflow {

struct Argument {
  const char* name;
  const char* type;
  bool onHost = false;  // in host memory on every device
};

// Creates, runs and destroys kernels for one type of device, as TF_NewKernelBuilder takes them.
struct KernelFunctions {
  const char* device;
  void* (*create)(TF_OpKernelConstruction*);
  void (*compute)(void* kernel, TF_OpKernelContext*);
  void (*destroy)(void* kernel);
};

struct Operation {
  const char* name;
  std::vector<Argument> inputs, outputs;
  std::vector<KernelFunctions> kernels;
};

// Absent arrays are empty tensors. `request` and `report` are defined in packing.hpp.
struct Operations {
  Operation logitsLoss, policyLoss, advantages;
};
Operations operations();

}  // namespace groupgrad::tensorflow
