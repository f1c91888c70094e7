/* A program without a dynamic linker that runs another. */
#include <unistd.h>

int main(int count, char **arguments) {
  (void)count;
  (void)execv(arguments[1], arguments + 1);
  return 127;
}
