#include "object.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define LIVE 0x53494d47u

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static object *free_objects[OBJECT_KIND_COUNT];
static unsigned long long last_id;

void *object_new(object_kind kind, size_t size) {
  pthread_mutex_lock(&mutex);
  object *made = free_objects[kind];
  if (made != NULL)
    free_objects[kind] = made->next;
  else
    made = malloc(size);
  unsigned long long id = ++last_id;
  pthread_mutex_unlock(&mutex);
  if (made == NULL) return NULL;
  memset(made, 0, size);
  made->kind = kind;
  made->id = id;
  __atomic_store_n(&made->mark, LIVE, __ATOMIC_RELEASE);
  return made;
}

bool object_is(const void *handle, object_kind kind) {
  const object *candidate = handle;
  return candidate != NULL && (uintptr_t)handle % _Alignof(object) == 0 &&
         __atomic_load_n(&candidate->mark, __ATOMIC_ACQUIRE) == LIVE && candidate->kind == kind;
}

void object_delete(void *handle) {
  object *gone = handle;
  __atomic_store_n(&gone->mark, 0, __ATOMIC_RELEASE);
  pthread_mutex_lock(&mutex);
  gone->next = free_objects[gone->kind];
  free_objects[gone->kind] = gone;
  pthread_mutex_unlock(&mutex);
}
