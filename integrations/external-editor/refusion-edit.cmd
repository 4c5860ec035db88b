@echo off
rem Restores a photo that another program hands over, as its "external editor".
rem The result is saved beside the photo as NAME-TASK with the suffix of the photo.
rem The name of this file gives the task: refusion-edit and refusion-dehaze remove haze;
rem copies named refusion-deshadow, refusion-denoise or refusion-blind do the other tasks.
setlocal
chcp 65001 > nul
if not defined REFUSION set "REFUSION=refusion"
set "task=%~n0"
set "task=%task:refusion-=%"
if "%task%" == "edit" set "task=dehaze"
"%REFUSION%" "%task%" --quiet --suffix=-%task% --output "%~dp1." "%~f1"
if errorlevel 1 pause
