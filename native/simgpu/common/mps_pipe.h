/* How a client of MPS and its control daemon talk: packets on the socket `control` of the pipe directory.
 *
 * A program that initialises CUDA sends MPS_JOIN and keeps the connection; the answer is MPS_WELCOME, filled in.  The connection ends
 * with the daemon, which is how its clients know.  Everything else is a line of the control program, answered by MPS_ANSWER
 * and what there is to print.  This is simgpu's own language: NVIDIA's is not public.
 */
#ifndef SIMGPU_MPS_PIPE_H
#define SIMGPU_MPS_PIPE_H

#include <stddef.h>
#include <stdint.h>

#define MPS_JOIN "client"
#define MPS_WELCOME "welcome %u %llu" /* percent of the multiprocessors, bytes of device memory; 0: no limit */
#define MPS_ANSWER '>'
#define MPS_LONGEST 512u /* bytes of a packet */
#define MPS_PIPE_DIRECTORY "/tmp/nvidia-mps"

/* Connects to the daemon of the pipe directory that $CUDA_MPS_PIPE_DIRECTORY names; -1 when nobody answers there. */
int mps_connect(void);

/* Sends one packet and receives the answer, with a NUL behind it; its length, or -1. */
int mps_ask(int fd, const char *packet, char answer[MPS_LONGEST]);

/* `<device>=<size>` of a list such as `0=4G,1=512M`: the bytes for device 0; 0 when it names none. */
uint64_t mps_memory_of(const char *list);

/* A size such as 4G, 512M or 4096; 0 when it is none. */
uint64_t mps_size(const char *text);

#endif
