#include "api.hpp"

#if defined(__linux__)
#include <dlfcn.h>
#endif

#include <vector>

namespace groupgrad::tensorflow {

Api api;

#if defined(__linux__)

namespace {

// The location of the functions differs: TensorFlow 2.9 has them in libtensorflow, 2.21's wheel in the other two.
std::vector<void*> loadedLibraries(std::string& names) {
  std::vector<void*> handles;
  for (const char* name : {"libtensorflow_framework.so.2", "libtensorflow.so.2", "libtensorflow_cc.so.2"}) {
    // Node opens addons with RTLD_LOCAL, so the libraries they load are only found by name. Never closed:
    // TensorFlow stays loaded.
    void* handle = dlopen(name, RTLD_LAZY | RTLD_NOLOAD);
    if (!handle) continue;
    handles.push_back(handle);
    names += (names.empty() ? "" : ", ") + std::string(name);
  }
  return handles;
}

}  // namespace

std::string findApi() {
  if (api.TF_Version) return "";
  std::string names;
  const std::vector<void*> handles = loadedLibraries(names);
  if (handles.empty()) return "no TensorFlow library is loaded in this process";
  const auto find = [&](const char* name) {
    void* symbol = nullptr;
    for (size_t i = 0; i < handles.size() && !symbol; ++i) symbol = dlsym(handles[i], name);
    return symbol;
  };
  Api found;
  std::string missing;
#define GROUPGRAD_LOOK_UP(name, result, parameters)                 \
  found.name = reinterpret_cast<result(*) parameters>(find(#name)); \
  if (!found.name) missing += (missing.empty() ? "" : ", ") + std::string(#name);
  GROUPGRAD_TENSORFLOW_FUNCTIONS(GROUPGRAD_LOOK_UP)
#undef GROUPGRAD_LOOK_UP
  if (!missing.empty()) return "the loaded TensorFlow (" + names + ") lacks " + missing;
  api = found;
  return "";
}

#else

std::string findApi() { return "operations inside TensorFlow are built for Linux only"; }

#endif

}  // namespace groupgrad::tensorflow
