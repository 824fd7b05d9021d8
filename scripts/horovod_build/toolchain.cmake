# Horovod 0.28.1 asks for C++14, torch's headers need C++20. CMake includes the file named here right after Horovod's
# project() call, which is late enough to change what "C++14" means and needs no patch of Horovod's source.
set(CMAKE_PROJECT_horovod_INCLUDE "${CMAKE_CURRENT_LIST_DIR}/cxx20.cmake")
