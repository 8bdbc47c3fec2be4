// Functions that the compiler's static runtime (libstdc++, libgcc) needs from a newer glibc than prebuilt addons
// require. Compiled in only with the stubs of scripts/glibc-stubs.mjs: the linker takes these in place of glibc's.

#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <link.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#define HIDDEN __attribute__((visibility("hidden")))

extern "C" {

// 2.32: whether the process has one thread, so that reference counts need no atomic instructions. Node has several.
HIDDEN char __libc_single_threaded = 0;

// 2.25. Kernels before 3.17 lack the system call; std::random_device then throws.
HIDDEN int getentropy(void* buffer, size_t length) noexcept {
  if (length > 256) {
    errno = EIO;
    return -1;
  }
  for (size_t done = 0; done < length;) {
    const long got = syscall(SYS_getrandom, static_cast<char*>(buffer) + done, length - done, 0);
    if (got < 0 && errno != EINTR) return -1;
    if (got > 0) done += size_t(got);
  }
  return 0;
}

// 2.36; it cannot fail.
HIDDEN uint32_t arc4random() noexcept {
  uint32_t value;
  if (getentropy(&value, sizeof value) != 0) abort();
  return value;
}

#if defined(DLFO_EH_SEGMENT_TYPE)
namespace {

struct Search {
  uintptr_t address;
  dl_find_object* found;
};

int visit(dl_phdr_info* info, size_t, void* data) {
  const auto& search = *static_cast<Search*>(data);
  uintptr_t begin = UINTPTR_MAX, end = 0;
  bool contains = false;
  void* frames = nullptr;
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    const ElfW(Phdr)& header = info->dlpi_phdr[i];
    const uintptr_t start = info->dlpi_addr + header.p_vaddr;
    if (header.p_type == PT_LOAD) {
      begin = start < begin ? start : begin;
      end = start + header.p_memsz > end ? start + header.p_memsz : end;
      contains = contains || (search.address >= start && search.address < start + header.p_memsz);
    } else if (header.p_type == DLFO_EH_SEGMENT_TYPE) {
      frames = reinterpret_cast<void*>(start);
    }
  }
  if (!contains || !frames) return 0;
  *search.found = {};
  search.found->dlfo_map_start = reinterpret_cast<void*>(begin);
  search.found->dlfo_map_end = reinterpret_cast<void*>(end);
  search.found->dlfo_eh_frame = frames;
  return 1;
}

}  // namespace

// 2.35: where the unwinder of libgcc finds the exception tables of the code at an address.
HIDDEN int _dl_find_object(void* address, dl_find_object* result) noexcept {
  Search search{reinterpret_cast<uintptr_t>(address), result};
  return dl_iterate_phdr(visit, &search) == 1 ? 0 : -1;
}
#endif

}  // extern "C"
