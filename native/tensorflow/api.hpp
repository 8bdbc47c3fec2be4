// The part of TensorFlow's C API that registers operations, found at run time in the library that tfjs-node has loaded:
// no TensorFlow header, nothing linked. Declarations follow TensorFlow's public C API (tensorflow/c: ops.h, kernels.h,
// tf_tensor.h, tf_status.h, tf_buffer.h, c_api.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace groupgrad::tensorflow {

struct TF_Status;
struct TF_Tensor;
struct TF_OpDefinitionBuilder;
struct TF_KernelBuilder;
struct TF_OpKernelConstruction;
struct TF_OpKernelContext;
struct TF_ShapeInferenceContext;
struct TF_Buffer {
  const void* data;
  size_t length;
  void (*data_deallocator)(void* data, size_t length);
};
struct TF_AllocatorAttributes {
  size_t struct_size;
  unsigned char on_host;
};

enum TF_Code : int { kOk = 0, kInvalidArgument = 3, kResourceExhausted = 8, kInternal = 13 };
enum TF_DataType : int { kFloat = 1, kInt32 = 3, kBool = 10 };

// One entry per function: name, return type, parameters.
#define GROUPGRAD_TENSORFLOW_FUNCTIONS(X)                                                                         \
  X(TF_Version, const char*, ())                                                                                  \
  X(TF_NewStatus, TF_Status*, ())                                                                                 \
  X(TF_DeleteStatus, void, (TF_Status*))                                                                          \
  X(TF_SetStatus, void, (TF_Status*, TF_Code, const char* message))                                               \
  X(TF_GetCode, TF_Code, (const TF_Status*))                                                                      \
  X(TF_Message, const char*, (const TF_Status*))                                                                  \
  X(TF_GetAllOpList, TF_Buffer*, ())                                                                              \
  X(TF_DeleteBuffer, void, (TF_Buffer*))                                                                          \
  X(TF_NewOpDefinitionBuilder, TF_OpDefinitionBuilder*, (const char* name))                                       \
  X(TF_OpDefinitionBuilderAddInput, void, (TF_OpDefinitionBuilder*, const char* specification))                   \
  X(TF_OpDefinitionBuilderAddOutput, void, (TF_OpDefinitionBuilder*, const char* specification))                  \
  X(TF_OpDefinitionBuilderSetShapeInferenceFunction, void,                                                        \
    (TF_OpDefinitionBuilder*, void (*)(TF_ShapeInferenceContext*, TF_Status*)))                                   \
  X(TF_ShapeInferenceContextSetUnknownShape, void, (TF_ShapeInferenceContext*, TF_Status*))                       \
  X(TF_RegisterOpDefinition, void, (TF_OpDefinitionBuilder*, TF_Status*))                                         \
  X(TF_NewKernelBuilder, TF_KernelBuilder*,                                                                       \
    (const char* operation, const char* device, void* (*create)(TF_OpKernelConstruction*),                        \
     void (*compute)(void*, TF_OpKernelContext*), void (*destroy)(void*)))                                        \
  X(TF_KernelBuilder_HostMemory, void, (TF_KernelBuilder*, const char* argument))                                 \
  X(TF_RegisterKernelBuilder, void, (const char* name, TF_KernelBuilder*, TF_Status*))                            \
  X(TF_OpKernelConstruction_Failure, void, (TF_OpKernelConstruction*, TF_Status*))                                \
  X(TF_OpKernelContext_Failure, void, (TF_OpKernelContext*, TF_Status*))                                          \
  X(TF_GetInput, void, (TF_OpKernelContext*, int index, TF_Tensor**, TF_Status*))                                 \
  X(TF_SetOutput, void, (TF_OpKernelContext*, int index, const TF_Tensor*, TF_Status*))                           \
  X(TF_AllocateOutput, TF_Tensor*,                                                                                \
    (TF_OpKernelContext*, int index, TF_DataType, const int64_t* dimensions, int rank, size_t bytes, TF_Status*)) \
  X(TF_AllocateTemp, TF_Tensor*,                                                                                  \
    (TF_OpKernelContext*, TF_DataType, const int64_t* dimensions, int rank, TF_AllocatorAttributes*, TF_Status*)) \
  X(TF_NewTensor, TF_Tensor*,                                                                                     \
    (TF_DataType, const int64_t* dimensions, int rank, void* data, size_t bytes,                                  \
     void (*deallocate)(void* data, size_t bytes, void* argument), void* argument))                               \
  X(TF_DeleteTensor, void, (TF_Tensor*))                                                                          \
  X(TF_TensorData, void*, (const TF_Tensor*))                                                                     \
  X(TF_TensorByteSize, size_t, (const TF_Tensor*))                                                                \
  X(TF_NumDims, int, (const TF_Tensor*))                                                                          \
  X(TF_Dim, int64_t, (const TF_Tensor*, int index))

struct Api {
#define GROUPGRAD_MEMBER(name, result, parameters) result(*name) parameters = nullptr;
  GROUPGRAD_TENSORFLOW_FUNCTIONS(GROUPGRAD_MEMBER)
#undef GROUPGRAD_MEMBER
};

// Filled in by the first findApi() that succeeds.
extern Api api;

// Looks up the functions in the TensorFlow that this process has loaded. Returns the reason if there are none, else
// nothing.
std::string findApi();

}  // namespace groupgrad::tensorflow
