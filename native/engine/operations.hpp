// The operations of the tfjs backend `groupgrad` as plain requests, and the table that a device fills in: one function
// for each. The CPU's are in cpu/; a second device would fill the same table.
//
// Tensors are dense and row-major. Sizes and strides count elements. A request's pointers are owned by the caller,
// who has checked that all accesses are within bounds (native/binding/engine.cpp); outputs never overlap inputs.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

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

// In the order of kBinaryNames; those from `equal` on return bool.
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

// Maximum number of axes of a request. Axes that are contiguous in memory have been merged.
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
// nearest, ties to even. bfloat16 converts only from and to float32.
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

// The index of the largest (or smallest) value of each row; the first if there are several.
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

// y = 0; y[indices[i], :] += x[i, :], in the order of i. Indices outside [0, n) are skipped.
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

// An unpacked right factor B [k, n]: float32 or bfloat16 values.
struct Matrix {
  int64_t k, n;
  int64_t strideK, strideN;
  const float* float32 = nullptr;
  const uint16_t* bfloat16 = nullptr;
};

// C[i] = activation(A[i] B[i] + bias) for each i of a batch, or with C[i] in the sum too. A row of C depends only on
// the row of A, B, `bias`, `precision`, and where it is in the sum that row of C: for each element, the sum over k is
// the same chain of operations whatever m, n, batch and threads are, and whether or not B was packed before.
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
  bool accumulates = false;  // C is in the sum, before the first block of k
  float* c;
};

// y = x scale (weight + offset) for each row of n values, scale = 1 / sqrt(mean(x^2) + epsilon).
struct RmsNormRequest {
  int64_t rows, n;
  float epsilon, offset;
  const float* x;
  const float* weight;  // [n]
  float* y;
  float* scale;  // [rows]
};

// Its gradient, given that of y. The weight's gradient sums rows in groups of 128.
struct RmsNormBackwardRequest {
  int64_t rows, n;
  float offset;
  const float* dy;
  const float* x;
  const float* weight;
  const float* scale;
  float* dx;
  float* dWeight;  // null: not wanted
};

// Rotates the first `width` dimensions of each head, paired in halves; the others are copied. Row r of x [rows,
// heads, size] is rotated by row r % positions of the tables [positions, size].
struct RotaryRequest {
  int64_t rows, heads, size, width, positions;
  bool inverse;
  const float* x;
  const float* cos;
  const float* sin;
  float* y;
};

// y = activation(gate) up, with SiLU or GELU (by tanh).
struct GatedUnitRequest {
  bool gelu;
  int64_t size;
  const float* gate;
  const float* up;
  float* y;
};

struct GatedUnitBackwardRequest {
  bool gelu;
  int64_t size;
  const float* dy;
  const float* gate;
  const float* up;
  float* dGate;
  float* dUp;
};

// Maximum number of query heads that share keys and values.
constexpr int64_t kMaxSharingHeads = 512;

// Causal attention. Scores are query . key x scale, then softCap tanh(score / softCap) if there is a cap. Position
// t of a sequence attends to positions max(start, t - window + 1) to t; positions before the start are padding.
struct AttentionShape {
  int64_t heads, keyValueHeads, headSize;  // each head of keys and values serves heads / keyValueHeads of queries
  float scale, softCap;                    // 0: no cap
  int64_t window;                          // 0: none
};

// Queries [sequences, length, heads, headSize] against keys and values [sequences, length, keyValueHeads,
// headSize]. A position's result depends only on its query and on the keys and values that it attends to, which are
// processed in blocks counted from the start; only a non-finite value may make earlier results NaN. Padding gives
// 0.
struct AttentionRequest {
  AttentionShape shape;
  int64_t sequences, length;
  const int32_t* starts;  // [sequences], each within [0, length]
  const float* query;
  const float* key;
  const float* value;
  float* y;
  float* logSumExp;  // [sequences, length, heads], of the scores
};

// One new position for each of some rows, whose earlier keys and values are in blocks of `columns` positions: block
// i of head h of row r at keys[i] + (r keyValueHeads + h) columns headSize. The new ones are written to their place
// first. The result is bit-identical to AttentionRequest's for the same position.
struct DecodeAttentionRequest {
  AttentionShape shape;
  int64_t rows, columns;
  const int32_t*
      lengths;         // positions of each row before the new one, for which there is a block; -1: a row to pass over
  const float* query;  // [rows, heads, headSize]
  const float* key;    // [rows, keyValueHeads, headSize]
  const float* value;
  std::span<float*const> keys, values;
  float* y;  // [rows, heads, headSize]; 0 in rows that are passed over
};

// The gradients of attention. `mixed` is y of the forward pass.
struct AttentionBackwardRequest {
  AttentionShape shape;
  int64_t sequences, length;
  const int32_t* starts;
  const float* dy;
  const float* query;
  const float* key;
  const float* value;
  const float* mixed;
  const float* logSumExp;
  float* dQuery;
  float* dKey;
  float* dValue;
};

// One update of AdamW by gradient x scale: mean and square are running means of the gradient and its square;
// variable x (1 - decay) - rate mean / (sqrt(square / correction) + epsilon).
struct AdamWRequest {
  int64_t size;
  double scale, beta1, beta2, epsilon, rate, decay, correction;
  const float* variable;
  const float* mean;
  const float* square;
  const float* gradient;
  float* newVariable;
  float* newMean;
  float* newSquare;
};

// The sum of the squares of all values of the inputs, in float64.
struct SumOfSquaresRequest {
  std::span<const std::span<const float>> x;
  double* y;
};

// What is left of a distribution: the topK most likely tokens (0: all), of those the fewest whose probability reaches
// topP, of those the ones at least minP times as likely as the most likely.
struct Cut {
  int64_t topK;
  double topP, minP;
};

// A token for each row of logits, with its log-prob. It is the one in whose share of softmax(logits / temperature), of
// tokens below `allowed`, the row's uniform number falls. Where there is a cut, that is what the cut leaves, and the
// log-prob is that of the logits in which all others are `masked`. Log-probs have the bits of the CPU device's
// logitsLoss.
struct SampleRequest {
  int64_t rows, vocab, allowed;
  int64_t block;  // divides vocab; of this many probabilities a float32 total is drawn first, then one of them
  double temperature;
  bool cuts;
  Cut cut;
  float masked;
  const float* logits;
  const double* uniforms;  // [rows], within [0, 1); null: the most likely token, the lowest id of equals
  const uint8_t* wanted;   // [rows]; 0: a row to pass over
  int32_t* tokens;         // -1: a row that is passed over, or without probabilities because a logit is not finite
  float* logProbs;         // 0 for a token of -1
  std::span<std::vector<int32_t>> kept;  // [rows] if there is a cut: the ids that it left, ascending
};

// A device. `state` holds its threads and scratch memory, per environment. No exception crosses these functions.
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
  Status (*rmsNorm)(void* state, const RmsNormRequest&);
  Status (*rmsNormBackward)(void* state, const RmsNormBackwardRequest&);
  Status (*rotary)(void* state, const RotaryRequest&);
  Status (*gatedUnit)(void* state, const GatedUnitRequest&);
  Status (*gatedUnitBackward)(void* state, const GatedUnitBackwardRequest&);
  Status (*attention)(void* state, const AttentionRequest&);
  Status (*decodeAttention)(void* state, const DecodeAttentionRequest&);
  Status (*attentionBackward)(void* state, const AttentionBackwardRequest&);
  Status (*adamW)(void* state, const AdamWRequest&);
  Status (*sumOfSquares)(void* state, const SumOfSquaresRequest&);
  Status (*sample)(void* state, const SampleRequest&);
  Status (*matMul)(void* state, const MatMulRequest&);
  // `packed` is null if there is not enough memory.
  Status (*pack)(void* state, Precision, const Matrix&, PackedMatrix*& packed);
  int64_t (*packedBytes)(const PackedMatrix&);
  void (*freePacked)(PackedMatrix*);
};

}  // namespace groupgrad::engine
