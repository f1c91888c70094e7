/* nvmlInit and nvmlShutdown: finds the node and the cards that this process may see. */
#include "node.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "faults.h"

#define MIG_DEVICES (SIM_MAX_CARDS * SIM_MAX_GPU_INSTANCES * SIM_MAX_COMPUTE_INSTANCES)

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static unsigned int users;
static sim_store store = {.fd = -1};
static sim_node node;
static struct nvmlDevice_st devices[SIM_MAX_CARDS];
static unsigned int device_count;
static struct nvmlDevice_st mig_devices[MIG_DEVICES];
static pthread_mutex_t mig_mutex = PTHREAD_MUTEX_INITIALIZER; /* guards them and the writer */
static sim_session writer;
static pid_t writer_pid;

const sim_store *node_store(void) { return &store; }

nvmlReturn_t node_ready(void) {
  return __atomic_load_n(&users, __ATOMIC_ACQUIRE) > 0 ? NVML_SUCCESS : NVML_ERROR_UNINITIALIZED;
}

nvmlDevice_t node_devices(unsigned int *count) {
  *count = device_count;
  return devices;
}

const char *node_driver_version(void) { return node.driver_version; }

unsigned int node_cuda_version(void) { return node.cuda_version; }

static bool element(const struct nvmlDevice_st *array, size_t count, nvmlDevice_t handle) {
  return handle != NULL && handle >= array && handle < array + count &&
         ((const char *)handle - (const char *)array) % (long)sizeof *array == 0;
}

/* Why libraries and kernel module do not go together, if so. */
static nvmlReturn_t driver_fits(void) {
  char loaded[sizeof node.driver_version];
  const sim_driver_state driver = sim_driver_read(&store);
  if (driver.unloaded != 0) return NVML_ERROR_DRIVER_NOT_LOADED;
  if (driver.library_version[0] == '\0') return NVML_SUCCESS;
  if (!sim_store_version(&store, loaded)) return NVML_ERROR_UNKNOWN;
  return strcmp(driver.library_version, loaded) == 0 ? NVML_SUCCESS : NVML_ERROR_LIB_RM_VERSION_MISMATCH;
}

nvmlReturn_t node_answers(nvmlDevice_t card) {
  return sim_faults_read(&store, card->card).presence == SIM_PRESENT ? NVML_SUCCESS : NVML_ERROR_GPU_IS_LOST;
}

nvmlReturn_t node_card(nvmlDevice_t handle, const sim_card **card) {
  TRY(node_ready());
  if (element(mig_devices, MIG_DEVICES, handle)) return NVML_ERROR_NOT_SUPPORTED;
  NEED(element(devices, device_count, handle));
  TRY(driver_fits());
  *card = &handle->facts;
  return node_answers(handle);
}

/* ---- MIG devices ------------------------------------------------------------------------------------------------- */

nvmlReturn_t node_device(nvmlDevice_t handle, const sim_card **facts) {
  sim_condition now;
  if (!element(mig_devices, MIG_DEVICES, handle)) return node_card(handle, facts);
  TRY(node_ready());
  NEED(handle->serial != 0);
  TRY(node_error(sim_condition_read(&store, &handle->parent->facts, handle->card, &now)));
  TRY(node_answers(handle));
  NEED(now.mig.enabled && now.mig.instances[handle->place].compute[handle->id].serial == handle->serial);
  *facts = &handle->facts;
  return NVML_SUCCESS;
}

nvmlDevice_t node_mig_device(nvmlDevice_t parent, const sim_mig *mig, uint32_t place, uint32_t id) {
  size_t index = ((size_t)(parent - devices) * SIM_MAX_GPU_INSTANCES + place) * SIM_MAX_COMPUTE_INSTANCES + id;
  nvmlDevice_t device = &mig_devices[index];
  uint32_t serial = mig->instances[place].compute[id].serial;
  pthread_mutex_lock(&mig_mutex);
  if (device->serial != serial || device->parent != parent || device->card != parent->card) {
    device->facts = parent->facts;
    sim_mig_facts(&device->facts, &mig->instances[place], id);
    device->card = parent->card;
    device->place = place;
    device->id = id;
    device->parent = parent;
    device->serial = serial;
  }
  pthread_mutex_unlock(&mig_mutex);
  return device;
}

uint32_t node_instance(nvmlDevice_t device) {
  return device->serial != 0 ? sim_instance_word(device->card, device->place, device->id) : 0;
}

static nvmlReturn_t start_writer(void) {
  sim_store own;
  TRY(node_error(sim_store_open(&own, store.root, true)));
  TRY(node_error(sim_session_begin(&writer, &own)));
  writer_pid = getpid();
  return NVML_SUCCESS;
}

nvmlReturn_t node_writer(sim_session **session) {
  struct stat here;
  struct stat there;
  TRY(node_ready());
  pthread_mutex_lock(&mig_mutex);
  /* A slot is its process's own: a forked child takes another, and so does whoever finds the node made anew. */
  bool current = writer_pid == getpid() && fstat(writer.store.fd, &here) == 0 && fstat(store.fd, &there) == 0 &&
                 here.st_dev == there.st_dev && here.st_ino == there.st_ino;
  nvmlReturn_t result = current ? NVML_SUCCESS : start_writer();
  pthread_mutex_unlock(&mig_mutex);
  *session = &writer;
  return result;
}

/* ------------------------------------------------------------------------------------------------------------------ */

nvmlReturn_t give_text(char *buffer, unsigned int length, const char *text) {
  NEED(buffer != NULL);
  size_t size = strlen(text) + 1;
  if (size > length) return NVML_ERROR_INSUFFICIENT_SIZE;
  memcpy(buffer, text, size);
  return NVML_SUCCESS;
}

nvmlReturn_t node_error(sim_status status) {
  switch (status) {
    case SIM_OK: return NVML_SUCCESS;
    case SIM_ABSENT: return NVML_ERROR_DRIVER_NOT_LOADED;
    case SIM_DENIED: return NVML_ERROR_NO_PERMISSION;
    case SIM_SYSTEM: return NVML_ERROR_OPERATING_SYSTEM;
    default: return NVML_ERROR_UNKNOWN;
  }
}

/* Whether the open store is still the file at its path: a node may be made anew while a process has NVML shut down. */
static bool store_current(const char *root) {
  char path[PATH_MAX + sizeof SIM_STATE_PATH + 1];
  struct stat here;
  struct stat there;
  snprintf(path, sizeof path, "%s/" SIM_STATE_PATH, root);
  return store.fd >= 0 && strcmp(store.root, root) == 0 && stat(path, &there) == 0 && fstat(store.fd, &here) == 0 &&
         here.st_dev == there.st_dev && here.st_ino == there.st_ino;
}

static nvmlReturn_t start(void) {
  if (!store_current(sim_root())) {
    sim_store opened;
    TRY(node_error(sim_store_open(&opened, sim_root(), false)));
    store = opened;
  }
  TRY(node_error(sim_store_node(&store, &node)));
  TRY(driver_fits());
  device_count = 0;
  for (uint32_t i = 0; i < node.card_count; i++) {
    if (!sim_card_visible(&store, &node.cards[i])) continue;
    if (sim_faults_read(&store, node.index[i]).presence == SIM_GONE) continue;
    devices[device_count].facts = node.cards[i];
    devices[device_count++].card = node.index[i];
  }
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlInitWithFlags(unsigned int flags) {
  NEED((flags & ~(unsigned int)(NVML_INIT_FLAG_NO_GPUS | NVML_INIT_FLAG_NO_ATTACH)) == 0);
  pthread_mutex_lock(&mutex);
  nvmlReturn_t result = users == 0 ? start() : NVML_SUCCESS;
  if (result == NVML_SUCCESS && device_count == 0 && (flags & NVML_INIT_FLAG_NO_GPUS) == 0)
    result = NVML_ERROR_DRIVER_NOT_LOADED;
  if (result == NVML_SUCCESS) __atomic_add_fetch(&users, 1u, __ATOMIC_RELEASE);
  pthread_mutex_unlock(&mutex);
  return result;
}

nvmlReturn_t nvmlInit_v2(void) { return nvmlInitWithFlags(NVML_INIT_FLAG_NO_GPUS); }

nvmlReturn_t nvmlInit(void) { return nvmlInitWithFlags(0); }

nvmlReturn_t nvmlShutdown(void) {
  pthread_mutex_lock(&mutex);
  nvmlReturn_t result = node_ready();
  if (result == NVML_SUCCESS) __atomic_sub_fetch(&users, 1u, __ATOMIC_RELEASE);
  pthread_mutex_unlock(&mutex);
  return result;
}
