/* Every call of the guard to the operating system.
 *
 * The guard runs inside somebody else's program.  Hence the contract of all functions here: they keep errno, are no
 * cancellation points, allocate nothing with malloc, install nothing (no handlers, no threads, no exit functions) and return a
 * negative errno value on failure.  Descriptors are close-on-exec.
 */
#ifndef GUARD_PRIM_H
#define GUARD_PRIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct prim_file {
  uint64_t device;
  uint64_t inode;
  uint64_t size;
  bool regular;
};

/* Opens an existing file; the last component of the path may not be a symbolic link. */
int prim_open(const char *path, bool writable);
void prim_close(int fd);
void prim_close_cleanup(int *fd);
/* A descriptor that is closed when it goes out of scope; negative means none. */
#define PRIM_AUTOCLOSE __attribute__((cleanup(prim_close_cleanup)))

/* Moves a descriptor out of the low numbers that programs close and reuse; returns the new one, the old one is closed. */
int prim_raise(int fd);
int prim_stat(int fd, struct prim_file *out);
/* True when the mount that fd was opened through is read-only. */
bool prim_on_readonly_mount(int fd);

/* Maps size bytes of the file, shared; NULL on failure. */
void *prim_map(int fd, size_t size, bool writable);
/* Zeroed private pages; NULL on failure. */
void *prim_pages(size_t size);
void prim_unmap(void *address, size_t size);
/* Asks the kernel to hand a forked child zeroed pages instead of a copy (Linux 4.14); false where it cannot. */
bool prim_wipe_on_fork(void *address, size_t size);

/* POSIX record locks on one byte.  take: 0, or -EAGAIN while another process holds it.  held: 1 held by another process, 0 not. */
int prim_byte_take(int fd, uint64_t offset);
int prim_byte_drop(int fd, uint64_t offset);
int prim_byte_held(int fd, uint64_t offset);
/* As prim_byte_held, and who that is, as our pid namespace has it: 0 when it has no such process. */
int prim_byte_holder(int fd, uint64_t offset, int32_t *pid);

/* A reader's lock on a range of the file that belongs to the open file description, whoever has it. */
int prim_mark(int fd, uint64_t offset, uint64_t bytes);

/* Reads the file to its end or until the room is full; how much that was. */
size_t prim_read(int fd, void *out, size_t room);
/* 0 when all of it was filled. */
int prim_random(void *out, size_t size);

/* Waits while *word == expected, at most timeout_ns.  shared: other processes may wake. */
void prim_futex_wait(uint32_t *word, uint32_t expected, uint64_t timeout_ns, bool shared);
void prim_futex_wake(uint32_t *word, int count, bool shared);

/* Calls visit with the name of each directory below path, "." and ".." left out; a negative result of visit ends the walk. */
int prim_each_directory(const char *path, int (*visit)(const char *name, void *context), void *context);

int32_t prim_pid(void);
uint64_t prim_boottime_ns(void);
uint64_t prim_monotonic_ns(void);
uint64_t prim_realtime_ns(void);
uint64_t prim_coarse_ns(void); /* monotonic, ticks every few milliseconds, cheap */

#endif
