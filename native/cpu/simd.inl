// Vectors of kWidth floats: one register of the instruction set that the including file is compiled for.
#pragma once

typedef float Floats __attribute__((vector_size(kWidth * 4)));
typedef int32_t Ints __attribute__((vector_size(kWidth * 4)));
typedef uint32_t Words __attribute__((vector_size(kWidth * 4)));
typedef uint16_t Halves __attribute__((vector_size(kWidth * 2)));
template <class V, class T>
GROUPGRAD_INLINE V load(const T* p) {
  V v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}

template <class V, class T>
GROUPGRAD_INLINE void store(T* p, V v) {
  __builtin_memcpy(p, &v, sizeof v);
}

// A streaming store to memory aligned to V. endStreams() makes the values visible to other threads.
template <class V>
GROUPGRAD_INLINE void stream(float* p, V v) {
#if defined(__clang__)
  __builtin_nontemporal_store(v, reinterpret_cast<V*>(p));
#elif defined(__x86_64__)
  if constexpr (sizeof(V) == 64) {
    __builtin_ia32_movntps512(p, v);
  } else if constexpr (sizeof(V) == 32) {
    __builtin_ia32_movntps256(p, v);
  } else {
    __builtin_ia32_movntps(p, v);
  }
#else
  store(p, v);
#endif
}
GROUPGRAD_INLINE void endStreams() {
#if defined(__x86_64__)
  __builtin_ia32_sfence();
#endif
}

GROUPGRAD_INLINE Floats splat(float x) { return Floats{} + x; }
// The second operand if either is NaN.
GROUPGRAD_INLINE Floats larger(Floats a, Floats b) { return a > b ? a : b; }

// A fixed tree, so that the same values give the same bits.
template <class V>
GROUPGRAD_INLINE double sumLanes(V v) {
  constexpr int n = sizeof(V) / sizeof(v[0]);
  double lanes[n];
  for (int i = 0; i < n; ++i) lanes[i] = v[i];
  for (int width = n / 2; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) lanes[i] += lanes[i + width];
  }
  return lanes[0];
}
