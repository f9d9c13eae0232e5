// Candidates laid out as panels (dim, WIDTH): each dimension of WIDTH neighbours side by side, as `score_tile` reads them.
#include "scores.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace {
constexpr int64_t LARGE = 1 << 25;  // bytes

// Ask for pages of 2 MiB: a scan of small ones waits for their addresses. Where there are none, nothing changes.
void ask_for_large_pages(float *start, int64_t floats) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    constexpr uintptr_t PAGE = 1 << 21;
    const uintptr_t first = (uintptr_t(start) + PAGE - 1) / PAGE * PAGE, last = uintptr_t(start + floats) / PAGE * PAGE;
    if (floats * 4 >= LARGE && first < last) madvise(reinterpret_cast<void *>(first), last - first, MADV_HUGEPAGE);
#endif
}
}  // namespace

extern "C" {

// The rows and columns of a tile, and the lanes of a register, to which other layouts are filled up.
void tile_shape(int64_t, int64_t *shape) { shape[0] = ROWS, shape[1] = WIDTH, shape[2] = LANES; }

// Lay out candidates (count, dim), in an order or as they come; the last panel is filled up with zeros.
void pack_panels(int64_t threads, const float *candidates, const int64_t *order, int64_t count, int64_t dim,
                 float *panels) {
    const int64_t num_panels = (count + WIDTH - 1) / WIDTH;
    ask_for_large_pages(panels, num_panels * dim * WIDTH);
#pragma omp parallel for num_threads(threads)
    for (int64_t panel = 0; panel < num_panels; panel++) {
        float *to = panels + panel * dim * WIDTH;
        for (int64_t lane = 0; lane < WIDTH; lane++) {
            const int64_t place = panel * WIDTH + lane;
            const float *from = place < count ? candidates + (order ? order[place] : place) * dim : nullptr;
            for (int64_t k = 0; k < dim; k++) to[k * WIDTH + lane] = from ? from[k] : 0;
        }
    }
}

// The opposite: candidates (count, dim), those of some rows or all in order.
void unpack_panels(int64_t threads, const float *panels, const int64_t *rows, int64_t count, int64_t dim,
                   float *candidates) {
#pragma omp parallel for num_threads(threads)
    for (int64_t place = 0; place < count; place++) {
        const int64_t row = rows ? rows[place] : place;
        const float *from = panels + row / WIDTH * dim * WIDTH + row % WIDTH;
        for (int64_t k = 0; k < dim; k++) candidates[place * dim + k] = from[k * WIDTH];
    }
}
}
