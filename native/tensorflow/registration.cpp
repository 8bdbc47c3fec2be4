#include "registration.hpp"

#if defined(__linux__)
#include <dlfcn.h>
#endif

#include <cctype>
#include <cstdio>
#include <string_view>

#include "kernels.hpp"
#include "tensors.hpp"

namespace groupgrad::tensorflow {

namespace {

// Two copies of the package have two copies of every variable, so a lock of the package would not prevent one from
// registering between the other's check and its registration. The C library's lock on a stream is process-wide.
class ProcessLock {
 public:
#if defined(_WIN32)
  ProcessLock() { _lock_file(stdin); }
  ~ProcessLock() { _unlock_file(stdin); }
#else
  ProcessLock() { flockfile(stdin); }
  ~ProcessLock() { funlockfile(stdin); }
#endif
  ProcessLock(const ProcessLock&) = delete;
  ProcessLock& operator=(const ProcessLock&) = delete;
};

// "GroupgradLogitsLoss_0_1_0": two versions of the package in one process do not conflict.
std::string versioned(const char* name, const std::string& version) {
  std::string result = std::string(name) + "_" + version;
  for (char& c : result) {
    if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
  }
  return result;
}

// TensorFlow terminates the process if a name is registered twice. Its list is a protocol buffer, in which the name
// is the first field of an operation: tag, length, characters.
bool isRegistered(const std::string& name) {
  TF_Buffer* list = api.TF_GetAllOpList();
  const std::string_view text(static_cast<const char*>(list->data), list->length);
  const std::string field = std::string("\n") + char(name.size()) + name;
  const bool found = text.find(field) != std::string_view::npos;
  api.TF_DeleteBuffer(list);
  return found;
}

// TensorFlow keeps pointers into this library for the life of the process, whereas Node closes an addon with the
// last thread that loaded it.
bool keepLoaded() {
#if defined(__linux__)
  Dl_info info;
  static const bool kept = dladdr(reinterpret_cast<void*>(&keepLoaded), &info) != 0 &&
                           dlopen(info.dli_fname, RTLD_NOW | RTLD_NODELETE) != nullptr;
  return kept;
#else
  return false;
#endif
}

void unknownShape(TF_ShapeInferenceContext* context, TF_Status* status) {
  api.TF_ShapeInferenceContextSetUnknownShape(context, status);
}

void registerOperation(const Operation& operation, const std::string& name) {
  const Status status;
  TF_OpDefinitionBuilder* definition = api.TF_NewOpDefinitionBuilder(name.c_str());
  const auto specification = [](const Argument& a) { return std::string(a.name) + ": " + a.type; };
  for (const Argument& a : operation.inputs) api.TF_OpDefinitionBuilderAddInput(definition, specification(a).c_str());
  for (const Argument& a : operation.outputs) api.TF_OpDefinitionBuilderAddOutput(definition, specification(a).c_str());
  api.TF_OpDefinitionBuilderSetShapeInferenceFunction(definition, unknownShape);
  api.TF_RegisterOpDefinition(definition, status.get());
  status.check();
  for (const KernelFunctions& kernel : operation.kernels) {
    TF_KernelBuilder* builder =
        api.TF_NewKernelBuilder(name.c_str(), kernel.device, kernel.create, kernel.compute, kernel.destroy);
    for (const auto* arguments : {&operation.inputs, &operation.outputs}) {
      for (const Argument& a : *arguments) {
        if (a.onHost) api.TF_KernelBuilder_HostMemory(builder, a.name);
      }
    }
    api.TF_RegisterKernelBuilder(name.c_str(), builder, status.get());
    status.check();
  }
}

}  // namespace

Registration registerOperations(const std::string& version) {
  const ProcessLock lock;
  Registration result;
  result.error = findApi();
  if (!result.error.empty()) return result;
  if (!keepLoaded()) {
    result.error = "the addon cannot be kept loaded";
    return result;
  }
  const Operations all = operations();
  try {
    for (const auto& [operation, name] :
         {std::pair{&all.logitsLoss, &result.logitsLoss}, std::pair{&all.policyLoss, &result.policyLoss},
          std::pair{&all.advantages, &result.advantages}}) {
      *name = versioned(operation->name, version);
      if (!isRegistered(*name)) registerOperation(*operation, *name);
    }
  } catch (const Failure& failure) {
    result.error = "TensorFlow " + std::string(api.TF_Version()) + " rejected an operation: " + failure.message;
    return result;
  }
  result.tensorflow = api.TF_Version();
  for (const KernelFunctions& kernel : all.logitsLoss.kernels) {
    result.devices += (result.devices.empty() ? "" : " and ") + std::string(kernel.device);
  }
  return result;
}

}  // namespace groupgrad::tensorflow
