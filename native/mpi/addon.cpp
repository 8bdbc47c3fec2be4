// Collective operations of MPI for src/processes/mpi.ts. An addon of its own, compiled by the wrapper of the MPI that
// is to be used
// (`groupgrad build --mpi`). Operations run on Node's pool of threads, one at a time, so that signals and timers need
// not wait for other processes.

#define OMPI_SKIP_MPICXX 1
#define MPICH_SKIP_MPICXX 1
#include <mpi.h>
#include <napi.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <string>
#include <thread>
#include <utility>

#if !defined(GROUPGRAD_VERSION)
#error "GROUPGRAD_VERSION must be the version of package.json"
#endif

namespace groupgrad::mpi {
namespace {

// MPI counts in int; a message is cut into pieces of at most as many elements.
constexpr size_t kLargestPiece = size_t{1} << 28;

// Below this many bytes, processes wait for others that may still compute, and must not take processor time from them.
// Larger messages follow small ones: all processes are there, and progress is made only while somebody looks.
constexpr size_t kSmall = 1 << 16;

// A communicator of our own: an MPI program in the same process may use the world's.
MPI_Comm communicator = MPI_COMM_NULL;

std::string messageOf(int code) {
  char text[MPI_MAX_ERROR_STRING] = {};
  int length = 0;
  MPI_Error_string(code, text, &length);
  return std::string(text, size_t(length));
}

void check(Napi::Env env, int code) {
  if (code != MPI_SUCCESS) throw Napi::Error::New(env, "MPI: " + messageOf(code));
}

// Waits without holding the processor where others take long.
int finishRequest(MPI_Request& request, bool patient) {
  auto pause = std::chrono::microseconds(20);
  for (int round = 0;; round++) {
    int done = 0;
    const int code = MPI_Test(&request, &done, MPI_STATUS_IGNORE);
    if (code != MPI_SUCCESS || done) return code;
    if (!patient || round < 100) {
      std::this_thread::yield();
    } else {
      std::this_thread::sleep_for(pause);
      pause = std::min(2 * pause, std::chrono::microseconds(1000));
    }
  }
}

// Begins an operation on `count` elements from `first` on.
using Begin = std::function<int(size_t first, int count, MPI_Request* request)>;

// An operation on the elements of arrays, which it keeps alive.
class Operation : public Napi::AsyncWorker {
 public:
  static Napi::Value run(Napi::Env env, std::initializer_list<Napi::Value> arrays, size_t elements, size_t bytes,
                         Begin begin) {
    auto* operation = new Operation(env, elements, bytes, std::move(begin));
    operation->arrays_ = Napi::Persistent(Napi::Array::New(env));
    uint32_t i = 0;
    for (const Napi::Value& array : arrays) operation->arrays_.Value().Set(i++, array);
    const Napi::Promise promise = operation->deferred_.Promise();
    operation->Queue();
    return promise;
  }

 private:
  Operation(Napi::Env env, size_t elements, size_t bytes, Begin begin)
      : Napi::AsyncWorker(env), deferred_(env), elements_(elements), bytes_(bytes), begin_(std::move(begin)) {}

  void Execute() override {
    for (size_t first = 0; first < elements_; first += kLargestPiece) {
      MPI_Request request = MPI_REQUEST_NULL;
      int code = begin_(first, int(std::min(kLargestPiece, elements_ - first)), &request);
      if (code == MPI_SUCCESS) code = finishRequest(request, bytes_ < kSmall);
      if (code != MPI_SUCCESS) return SetError("MPI: " + messageOf(code));
    }
  }
  void OnOK() override { deferred_.Resolve(Env().Undefined()); }
  void OnError(const Napi::Error& error) override { deferred_.Reject(error.Value()); }

  Napi::Promise::Deferred deferred_;
  Napi::Reference<Napi::Array> arrays_;
  size_t elements_;
  size_t bytes_;
  Begin begin_;
};

struct Array {
  Napi::Value value;
  char* data;
  size_t length;
  size_t elementSize;
  MPI_Datatype type;

  size_t bytes() const { return length * elementSize; }
};

Array arrayOf(const Napi::CallbackInfo& info, size_t index, const char* field) {
  const Napi::Env env = info.Env();
  const Napi::Value value = info[index];
  const bool isArray = value.IsTypedArray();
  const auto type = isArray ? value.As<Napi::TypedArray>().TypedArrayType() : napi_int8_array;
  if (type != napi_uint8_array && type != napi_float32_array) {
    throw Napi::TypeError::New(env, std::string(field) + ": expected a Uint8Array or Float32Array, got something else");
  }
  const auto array = value.As<Napi::TypedArray>();
  char* data = static_cast<char*>(array.ArrayBuffer().Data()) + array.ByteOffset();
  return {value, data, array.ElementLength(), array.ElementSize(), type == napi_float32_array ? MPI_FLOAT : MPI_BYTE};
}

void requireStarted(Napi::Env env) {
  if (communicator == MPI_COMM_NULL) throw Napi::Error::New(env, "MPI: expected start before any operation");
}

Napi::Value start(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (communicator == MPI_COMM_NULL) {
    int initialized = 0, provided = 0;
    check(env, MPI_Initialized(&initialized));
    if (initialized) {
      check(env, MPI_Query_thread(&provided));
    } else {
      check(env, MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &provided));
    }
    if (provided < MPI_THREAD_SERIALIZED) {
      throw Napi::Error::New(env,
                             "MPI: expected a library that several threads may call in turn, got one that forbids it");
    }
    check(env, MPI_Comm_dup(MPI_COMM_WORLD, &communicator));
    check(env, MPI_Comm_set_errhandler(communicator, MPI_ERRORS_RETURN));
  }
  int rank = 0, size = 0, length = 0;
  char library[MPI_MAX_LIBRARY_VERSION_STRING] = {};
  check(env, MPI_Comm_rank(communicator, &rank));
  check(env, MPI_Comm_size(communicator, &size));
  check(env, MPI_Get_library_version(library, &length));
  // Its first words: some libraries add how they were configured.
  std::string version(library, size_t(length));
  version = version.substr(0, version.find_first_of(",\n"));
  std::replace(version.begin(), version.end(), '\t', ' ');
  Napi::Object result = Napi::Object::New(env);
  result.Set("rank", rank);
  result.Set("size", size);
  result.Set("library", version);
  return result;
}

Napi::Value allReduceSum(const Napi::CallbackInfo& info) {
  requireStarted(info.Env());
  const Array values = arrayOf(info, 0, "values");
  if (values.type != MPI_FLOAT) throw Napi::TypeError::New(info.Env(), "values: expected a Float32Array, got bytes");
  return Operation::run(info.Env(), {values.value}, values.length, values.bytes(),
                        [values](size_t first, int count, MPI_Request* request) {
                          return MPI_Iallreduce(MPI_IN_PLACE, values.data + first * values.elementSize, count,
                                                MPI_FLOAT, MPI_SUM, communicator, request);
                        });
}

Napi::Value broadcast(const Napi::CallbackInfo& info) {
  requireStarted(info.Env());
  const Array values = arrayOf(info, 0, "values");
  const int root = info[1].ToNumber().Int32Value();
  return Operation::run(info.Env(), {values.value}, values.length, values.bytes(),
                        [values, root](size_t first, int count, MPI_Request* request) {
                          return MPI_Ibcast(values.data + first * values.elementSize, count, values.type, root,
                                            communicator, request);
                        });
}

// For a few bytes of each process: `all` is one piece.
Napi::Value allGather(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  requireStarted(env);
  const Array own = arrayOf(info, 0, "bytes"), all = arrayOf(info, 1, "all");
  int size = 0;
  check(env, MPI_Comm_size(communicator, &size));
  if (own.bytes() > kSmall || all.bytes() != own.bytes() * size_t(size)) {
    throw Napi::RangeError::New(env, "all: expected as many bytes as all processes give, at most 65536 each");
  }
  return Operation::run(env, {own.value, all.value}, 1, 0, [own, all](size_t, int, MPI_Request* request) {
    const int count = int(own.bytes());
    return MPI_Iallgather(own.data, count, MPI_BYTE, all.data, count, MPI_BYTE, communicator, request);
  });
}

// Collective, as the processes end. Does nothing where MPI was not started or is ended.
void finish(const Napi::CallbackInfo& info) {
  if (communicator == MPI_COMM_NULL) return;
  communicator = MPI_COMM_NULL;
  int finalized = 0;
  check(info.Env(), MPI_Finalized(&finalized));
  if (!finalized) check(info.Env(), MPI_Finalize());
}

int exitCode = 1;

// Ends all processes when this one exits. Node prints the error that ends it after the last JavaScript, and mpirun
// takes a moment to pass that on.
void abortAtExit(const Napi::CallbackInfo& info) {
  if (communicator == MPI_COMM_NULL) return;
  exitCode = info[0].ToNumber().Int32Value();
  std::atexit([] {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    MPI_Abort(communicator, exitCode);
  });
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  exports.Set("version", GROUPGRAD_VERSION);
  exports.Set("start", Napi::Function::New(env, start));
  exports.Set("allReduceSum", Napi::Function::New(env, allReduceSum));
  exports.Set("broadcast", Napi::Function::New(env, broadcast));
  exports.Set("allGather", Napi::Function::New(env, allGather));
  exports.Set("finish", Napi::Function::New(env, finish));
  exports.Set("abortAtExit", Napi::Function::New(env, abortAtExit));
  return exports;
}

}  // namespace
}  // namespace groupgrad::mpi

using groupgrad::mpi::init;
NODE_API_MODULE(groupgrad_mpi, init)
