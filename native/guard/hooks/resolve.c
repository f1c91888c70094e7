/* dlsym and dlvsym.
 *
 * The exported functions are a few instructions that ask for a route and then either return a hook or jump to the C library's
 * function with the caller's own arguments and return address: RTLD_NEXT and RTLD_DEFAULT mean "as seen from the caller", and
 * glibc knows the caller by the return address.  A hook is handed out only where the look-up would have found the very function
 * of the driver that the hook stands for.
 */
#include <dlfcn.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "driver.h"
#include "elf_find.h"

/* Returned in two registers.  jump: continue there; otherwise value is the result. */
struct route {
  void *jump;
  void *value;
};

struct route guard_route_dlsym(void *handle, const char *name);
struct route guard_route_dlvsym(void *handle, const char *name, const char *version);

/* Another preloaded library may export dlsym before us; by this name we mean ours. */
#define OWN_NAME(function) \
  ".globl guard_own_" #function "\n.hidden guard_own_" #function "\n.set guard_own_" #function ", " #function "\n"

#if defined(__x86_64__)
#define THUNK(function)             \
  __asm__(                          \
      ".text\n"                     \
      ".globl " #function           \
      "\n"                          \
      ".type " #function            \
      ", @function\n"               \
      ".p2align 4\n" #function      \
      ":\n"                         \
      ".cfi_startproc\n"            \
      "endbr64\n"                   \
      "push %rdi\n"                 \
      ".cfi_adjust_cfa_offset 8\n"  \
      "push %rsi\n"                 \
      ".cfi_adjust_cfa_offset 8\n"  \
      "push %rdx\n"                 \
      ".cfi_adjust_cfa_offset 8\n"  \
      "call guard_route_" #function \
      "\n"                          \
      "mov %rdx, %r11\n"            \
      "pop %rdx\n"                  \
      ".cfi_adjust_cfa_offset -8\n" \
      "pop %rsi\n"                  \
      ".cfi_adjust_cfa_offset -8\n" \
      "pop %rdi\n"                  \
      ".cfi_adjust_cfa_offset -8\n" \
      "test %rax, %rax\n"           \
      "jnz 1f\n"                    \
      "mov %r11, %rax\n"            \
      "ret\n"                       \
      "1: jmp *%rax\n"              \
      ".cfi_endproc\n"              \
      ".size " #function ", . - " #function "\n" OWN_NAME(function))
#elif defined(__aarch64__)
#define THUNK(function)             \
  __asm__(                          \
      ".text\n"                     \
      ".globl " #function           \
      "\n"                          \
      ".type " #function            \
      ", %function\n"               \
      ".p2align 4\n" #function      \
      ":\n"                         \
      ".cfi_startproc\n"            \
      "hint #34\n" /* bti c */      \
      "stp x29, x30, [sp, #-48]!\n" \
      ".cfi_def_cfa_offset 48\n"    \
      ".cfi_offset x29, -48\n"      \
      ".cfi_offset x30, -40\n"      \
      "stp x0, x1, [sp, #16]\n"     \
      "str x2, [sp, #32]\n"         \
      "bl guard_route_" #function   \
      "\n"                          \
      "mov x16, x0\n"               \
      "mov x17, x1\n"               \
      "ldr x2, [sp, #32]\n"         \
      "ldp x0, x1, [sp, #16]\n"     \
      "ldp x29, x30, [sp], #48\n"   \
      ".cfi_restore x29\n"          \
      ".cfi_restore x30\n"          \
      ".cfi_def_cfa_offset 0\n"     \
      "cbnz x16, 1f\n"              \
      "mov x0, x17\n"               \
      "ret\n"                       \
      "1: br x16\n"                 \
      ".cfi_endproc\n"              \
      ".size " #function ", . - " #function "\n" OWN_NAME(function))
#else
#error "the guard knows x86-64 and arm64"
#endif

THUNK(dlsym);
THUNK(dlvsym);

__attribute__((visibility("hidden"))) extern guard_function guard_own_dlsym;
__attribute__((visibility("hidden"))) extern guard_function guard_own_dlvsym;

static void *as_address(guard_function *function) {
  void *address;
  memcpy(&address, &function, sizeof address);
  return address;
}

/* cu[A-Z]… or nvml[A-Z]…: cublas, cudnn and curl are none of ours. */
static int hook_named(const char *name) {
  if (name == NULL) return -1;
  const bool nvml = name[0] == 'n' && name[1] == 'v' && name[2] == 'm' && name[3] == 'l';
  const char *rest = name[0] == 'c' && name[1] == 'u' ? name + 2 : nvml ? name + 4 : NULL;
  return rest != NULL && *rest >= 'A' && *rest <= 'Z' ? guard_hook_named(name) : -1;
}

/* found: what the C library answers for the hook's name, as seen from here. */
static struct route route(int hook, void *found, void *libc_function) {
  struct route to_libc = {libc_function, NULL};
  if (found == NULL) return to_libc; /* again, for the error text that the caller may ask for */
  void *own = as_address(guard_symbols[hook].hook);
  void *real = as_address(driver_function((enum guard_symbol)hook));
  if (real != NULL) return found == real || found == own ? (struct route){NULL, own} : to_libc;
  /* Without a driver the name would not be there: our export of it must not look like one. */
  return found == own ? (struct route){NULL, driver_libc_dlsym()(RTLD_NEXT, guard_symbols[hook].name)} : to_libc;
}

/* The C library's own dlsym or dlvsym, found by a program that asks for it by name, would see past us. */
static struct route route_lookup(void *found, void *libc_function) {
  if (found == as_address((guard_function *)driver_libc_dlsym()))
    return (struct route){NULL, as_address(guard_own_dlsym)};
  if (found == as_address((guard_function *)driver_libc_dlvsym()))
    return (struct route){NULL, as_address(guard_own_dlvsym)};
  return (struct route){libc_function, NULL};
}

static bool is_lookup(const char *name) {
  return name != NULL && (elf_same(name, "dlsym") || elf_same(name, "dlvsym"));
}

__attribute__((visibility("hidden"), used)) struct route guard_route_dlsym(void *handle, const char *name) {
  int saved = errno;
  driver_dlsym_fn *find = driver_libc_dlsym();
  int hook = hook_named(name);
  struct route result = {as_address((guard_function *)find), NULL};
  if (find == NULL) return result; /* nobody here links to libdl */
  if (hook >= 0) result = route(hook, find(handle, name), result.jump);
  if (is_lookup(name)) result = route_lookup(find(handle, name), result.jump);
  errno = saved;
  return result;
}

__attribute__((visibility("hidden"), used)) struct route guard_route_dlvsym(void *handle, const char *name,
                                                                            const char *version) {
  int saved = errno;
  driver_dlvsym_fn *find = driver_libc_dlvsym();
  int hook = hook_named(name);
  struct route result = {as_address((guard_function *)find), NULL};
  if (find == NULL) return result; /* nobody here links to libdl */
  if (hook >= 0) result = route(hook, find(handle, name, version), result.jump);
  if (is_lookup(name)) result = route_lookup(find(handle, name, version), result.jump);
  errno = saved;
  return result;
}
