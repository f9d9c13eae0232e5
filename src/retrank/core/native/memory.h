// Memory that a thread keeps for its next call: fresh memory costs a page fault every 4 KiB.
#pragma once
#include <cstdint>
#include <cstdlib>
#include <new>
#if defined(__linux__)
#include <sys/mman.h>
#endif

static inline float *scratch_memory(int64_t floats) {
    struct Kept {
        float *start = nullptr;
        int64_t size = 0;
        ~Kept() { free(start); }
    };
    static thread_local Kept kept;
    constexpr int64_t page = 1 << 19;  // floats in a huge page of 2 MiB
    if (floats > kept.size) {
        free(kept.start);
        kept.size = (floats + page - 1) / page * page;
        kept.start = static_cast<float *>(aligned_alloc(page * 4, kept.size * 4));
        if (!kept.start) {
            kept.size = 0;
            throw std::bad_alloc();
        }
#if defined(__linux__)
        madvise(kept.start, kept.size * 4, MADV_HUGEPAGE);
#endif
    }
    return kept.start;
}
