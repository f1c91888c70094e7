/* What leaves for other processes: its charge becomes a credit, which whoever imports it joins (credit.h). */
#include <string.h>

#include "admit.h"
#include "driver.h"
#include "exports.h"
#include "gate.h"
#include "lock.h"
#include "token.h"

static guard_lock lock; /* an entry's charge becomes a credit once, however many threads export the memory */

void export_reset(void) { lock.word = 0; }

/* With the lock. */
static void pass_on(const ledger_entry *entry, const credit_key *key) {
  ledger_entry joint = *entry;
  int credit = share_credit_make(entry->share, CREDIT_EXPORT, key, entry->bytes);
  if (credit == CREDIT_NONE) return; /* who imports it pays in full */
  joint.bytes = (uint64_t)credit;
  joint.account = entry->account == ACCOUNT_IMPORT ? ACCOUNT_JOINT : ACCOUNT_CREDIT;
  if (ledger_change(entry, &joint)) return;
  /* A thread of the program frees what another one exports: the charge that it gave back is the credit's. */
  share_force(entry->share, entry->bytes);
  share_credit_drop(entry->share, credit);
}

static bool is_own(const ledger_entry *entry) {
  return entry->bytes != 0 && (entry->account == ACCOUNT_SHARE || entry->account == ACCOUNT_IMPORT);
}

static bool find_pointer(CUdeviceptr pointer, ledger_entry *entry) {
  cuMemGetAddressRange_v2_fn *range = DRIVER(cuMemGetAddressRange_v2);
  CUdeviceptr base = pointer;
  if (ledger_get(LEDGER_POINTER, pointer, entry)) return true;
  return range != NULL && range(&base, NULL, pointer) == CUDA_SUCCESS && ledger_get(LEDGER_POINTER, base, entry);
}

GUARD_EXPORT CUresult cuIpcGetMemHandle(CUipcMemHandle *handle, CUdeviceptr pointer) {
  BEGIN_HOOK(cuIpcGetMemHandle, CUDA_ERROR_NOT_INITIALIZED);
  CUresult result = real(handle, pointer);
  ledger_entry entry;
  credit_key key;
  if (!limited || result != CUDA_SUCCESS || handle == NULL || !find_pointer(pointer, &entry)) return result;
  memcpy(&key, handle, sizeof key);
  GUARD_HOLD(&lock);
  if (ledger_get(LEDGER_POINTER, entry.key, &entry) && is_own(&entry)) pass_on(&entry, &key);
  return result;
}

/* The descriptor says which credit it is, whoever gets it. */
static void export_handle(CUmemGenericAllocationHandle handle, int fd) {
  ledger_entry entry;
  struct token token;
  credit_key key;
  uint64_t bytes = 0;
  GUARD_HOLD(&lock);
  if (!ledger_get(LEDGER_HANDLE, handle, &entry)) return;
  bool marked = token_read(fd, &token);
  if (is_own(&entry)) {
    marked = marked || (token_new(&token, entry.bytes) && token_write(fd, &token));
    key = (credit_key){.words = {token.name, token.bytes}};
    if (marked && token.bytes == entry.bytes) pass_on(&entry, &key);
  } else if (!marked && (entry.account == ACCOUNT_CREDIT || entry.account == ACCOUNT_JOINT)) {
    share_credit_tell(entry.share, (int)entry.bytes, &key, &bytes);
    if (bytes != 0) (void)token_write(fd, &(struct token){.name = key.words[0], .bytes = key.words[1]});
  }
}

GUARD_EXPORT CUresult cuMemExportToShareableHandle(void *exported, CUmemGenericAllocationHandle handle,
                                                   CUmemAllocationHandleType type, unsigned long long flags) {
  BEGIN_HOOK(cuMemExportToShareableHandle, CUDA_ERROR_NOT_INITIALIZED);
  CUresult result = real(exported, handle, type, flags);
  int fd;
  if (!limited || result != CUDA_SUCCESS || type != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR) return result;
  memcpy(&fd, exported, sizeof fd);
  export_handle(handle, fd);
  return result;
}
