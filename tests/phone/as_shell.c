/* as_shell PROGRAM WORDS…: become Android's shell user and run a program, in the virtual machine. */
#include <grp.h>
#include <stdio.h>
#include <unistd.h>

int main(int count, char **words) {
  if (count < 2 || setgroups(0, 0) || setgid(2000) || setuid(2000)) return 1;
  execv(words[1], words + 1);
  perror(words[1]);
  return 1;
}
