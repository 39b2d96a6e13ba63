// assert as CUDA has it: a kernel that fails one ends there. No include guard: NDEBUG may have changed.

#undef assert
#ifdef NDEBUG
#define assert(expression) ((void)0)
#else
extern "C" [[noreturn]] void emu_assert(const char *expression, const char *file, int line);
#define assert(expression) ((expression) ? (void)0 : emu_assert(#expression, __FILE__, __LINE__))
#endif
