// The operations of the tfjs backend `groupgrad` as plain requests, and the table that a device fills in: one function
// for each. The CPU's are in cpu/; a second device stands beside it by filling the same table.
//
// Tensors are dense and row-major. Sizes and strides count elements. A request's pointers belong to the caller, who has
// checked that everything it describes lies within them (native/binding/engine.cpp); outputs never overlap inputs.
#pragma once

#include <cstdint>
#include <span>

#include "../core/device.hpp"

namespace groupgrad::engine {

// In the order of kUnaryNames.
enum class Unary : int32_t {
  abs,
  ceil,
  elu,
  exp,
  expm1,
  floor,
  leakyRelu,
  log,
  log1p,
  neg,
  reciprocal,
  relu,
  relu6,
  rsqrt,
  sigmoid,
  softplus,
  sqrt,
  square,
  step,
  tanh
};
constexpr const char* kUnaryNames[] = {"Abs",     "Ceil",     "Elu",  "Exp",        "Expm1", "Floor", "LeakyRelu",
                                       "Log",     "Log1p",    "Neg",  "Reciprocal", "Relu",  "Relu6", "Rsqrt",
                                       "Sigmoid", "Softplus", "Sqrt", "Square",     "Step",  "Tanh"};

// In the order of kBinaryNames; those from `equal` on give bool.
enum class Binary : int32_t {
  add,
  sub,
  multiply,
  realDiv,
  maximum,
  minimum,
  squaredDifference,
  eluGrad,
  prelu,
  equal,
  notEqual,
  greater,
  greaterEqual,
  less,
  lessEqual
};
constexpr const char* kBinaryNames[] = {
    "Add",   "Sub",   "Multiply", "RealDiv", "Maximum",      "Minimum", "SquaredDifference", "EluGrad",
    "Prelu", "Equal", "NotEqual", "Greater", "GreaterEqual", "Less",    "LessEqual"};
constexpr bool comparesValues(Binary op) { return op >= Binary::equal; }

// In the order of kReductionNames.
enum class Reduction : int32_t { sum, mean, max, min };
constexpr const char* kReductionNames[] = {"Sum", "Mean", "Max", "Min"};

// y[i] = op(x[i]). `alpha`: the slope of leakyRelu and step below zero.
struct UnaryRequest {
  Unary op;
  int64_t size;
  float alpha;
  const float* x;
  float* y;
};

// The most axes that a request has. Axes that lie together in memory are merged before.
constexpr int kMaxRank = 8;

// y = op(a, b) over the shape of y; an operand's stride is 0 along axes that it is broadcast over. The last axis of an
// operand has stride 0 or 1.
struct BinaryRequest {
  Binary op;
  int rank;
  int64_t shape[kMaxRank];
  int64_t strideA[kMaxRank], strideB[kMaxRank];
  const float* a;
  const float* b;
  void* y;  // float, or uint8_t for comparisons
};

// y[i] = condition[i] ? a[i] : b[i].
struct SelectRequest {
  int64_t size;
  const uint8_t* condition;
  const float* a;
  const float* b;
  float* y;
};

enum class Type : int32_t { float32, int32, boolean, bfloat16 };

// y[i] = x[i] in another type: as JavaScript's typed arrays convert; to bool, whether it is not 0; to bfloat16, the
// nearest, ties to even. bfloat16 converts from and to float32 alone.
struct CastRequest {
  Type from, to;
  int64_t size;
  const void* x;
  void* y;
};

// Copies a box of elements: transpositions, slices, tiles, concatenation, padding.
struct CopyRequest {
  int bytes;  // of an element: 1 or 4
  int rank;
  int64_t shape[kMaxRank];
  int64_t strideX[kMaxRank], strideY[kMaxRank];
  const void* x;  // of the first element
  void* y;
};

// y[i] = value, given as its bytes.
struct FillRequest {
  int bytes;  // 1 or 4
  int64_t size;
  uint32_t value;
  void* y;
};

// y[o, i] = the reduction over n of x[o, n, i]. n > 0.
struct ReduceRequest {
  Reduction op;
  int64_t outer, n, inner;
  const float* x;
  float* y;
};

// The index of the largest (or smallest) of each row, the first where several are.
struct ArgRequest {
  bool smallest;
  int64_t rows, n;
  const float* x;
  int32_t* y;
};

// Over each row.
struct SoftmaxRequest {
  bool log;
  int64_t rows, n;
  const float* x;
  float* y;
};

// y[b, o, i, :] = x[b, o, indices[b, i], :].
struct GatherRequest {
  int bytes;  // of an element
  int64_t batch, outer, n, inner;
  int64_t indicesPerBatch;
  const void* x;
  const int32_t* indices;  // all within [0, n)
  void* y;
};

// y = 0; y[indices[i], :] += x[i, :], in the order of i. Indices outside [0, n) are passed over.
struct ScatterAddRequest {
  int64_t rows, n, inner;
  const float* x;
  const int32_t* indices;
  float* y;
};

// y = the sum of the inputs, in their order.
struct AddNRequest {
  int64_t size;
  std::span<const float* const> x;
  float* y;
};

// How products are computed: in float32, or with both factors rounded to bfloat16 and summed in float32.
enum class Precision : int32_t { float32, bfloat16 };

class PackedMatrix;  // a right factor in the device's own layout, which is faster to multiply by

// A right factor B [k, n] where it lies: float32 or bfloat16 values.
struct Matrix {
  int64_t k, n;
  int64_t strideK, strideN;
  const float* float32 = nullptr;
  const uint16_t* bfloat16 = nullptr;
};

// C[i] = activation(A[i] B[i] + bias) for each i of a batch. A row of C depends on the row of A, B, `bias`, and
// `precision` alone: element by element, the sum over k is the same chain of operations whatever m, n, batch, threads
// are, and whether B was packed before.
struct MatMulRequest {
  Precision precision;
  int64_t batch, m;
  int64_t strideM, strideK;  // of A
  Matrix right;
  std::span<const double> batchA, batchB;  // where each product's factors begin, in elements
  const float* a;
  const PackedMatrix* packed = nullptr;  // in place of `right`'s values, where the batch shares one B
  const float* bias = nullptr;           // [n]
  bool activates = false;
  Unary activation = Unary::relu;
  float alpha = 0;
  float* c;
};

// A device. `state` holds its threads and scratch memory; one an environment. No exception crosses these.
struct Operations {
  Status (*unary)(void* state, const UnaryRequest&);
  Status (*binary)(void* state, const BinaryRequest&);
  Status (*select)(void* state, const SelectRequest&);
  Status (*cast)(void* state, const CastRequest&);
  Status (*copy)(void* state, const CopyRequest&);
  Status (*fill)(void* state, const FillRequest&);
  Status (*reduce)(void* state, const ReduceRequest&);
  Status (*arg)(void* state, const ArgRequest&);
  Status (*softmax)(void* state, const SoftmaxRequest&);
  Status (*gather)(void* state, const GatherRequest&);
  Status (*scatterAdd)(void* state, const ScatterAddRequest&);
  Status (*addN)(void* state, const AddNRequest&);
  Status (*matMul)(void* state, const MatMulRequest&);
  // Null in `packed` where memory does not suffice.
  Status (*pack)(void* state, Precision, const Matrix&, PackedMatrix*& packed);
  int64_t (*packedBytes)(const PackedMatrix&);
  void (*freePacked)(PackedMatrix*);
};

}  // namespace groupgrad::engine
